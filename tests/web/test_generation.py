"""Text in the browser: the Python runtime's tokens, a page that stays alive, and a stop button."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

import dareq_runtime
from web_page import Page, Served

pytestmark = pytest.mark.web
PROMPT = "The people of the United States"
TEXTS = ["", "a", "  two  spaces ", "don't\nstop\r\n\t!", "naïve café 日本語 😀 3.14 %", "x" * 300]

NewPage = Callable[..., Page]


@pytest.mark.parametrize(("profile", "threads"), [("native", 1), ("portable", 1), ("web", 1), ("web", 2)])
def test_same_greedy_tokens_as_python(
    new_page: NewPage, server: Served, models: Path, profile: str, threads: int
) -> None:
    wanted = dareq_runtime.load(models / profile, compute="fp32").generate(PROMPT, max_new_tokens=64)
    page = new_page(f"{server.address}?model=models/{profile}/&threads={threads}").opened()
    assert page.text("#fact-threads").startswith(f"{threads} of ")
    assert page.generate(PROMPT, 64) == wanted.ids
    assert page.text("#output") == PROMPT + wanted.text
    assert "tokens/s" in page.tab.eval_on_selector("#speed", "e => e.value")


def test_facts_are_shown(new_page: NewPage, server: Served) -> None:
    page = new_page(f"{server.address}?model=models/web/").opened()
    cores = int(page.tab.evaluate("navigator.hardwareConcurrency"))
    assert page.text("#fact-threads") == f"{min(4, (cores + 1) // 2)} of {cores}"
    assert page.text("#fact-simd") == "yes"
    assert float(page.text("#fact-memory").removesuffix(" MB")) > 20  # 5.9 M weights unfolded to 4 bytes each
    assert page.text("#fact-load").endswith(" s")
    assert page.text("#notes") == ""


def test_sampling_repeats_with_its_seed(new_page: NewPage, server: Served) -> None:
    page = new_page(f"{server.address}?model=models/web/").opened()
    first, again, other = (page.generate(PROMPT, 24, temperature=1.5, seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_page_stays_alive_and_stops(new_page: NewPage, server: Served) -> None:
    page = new_page(f"{server.address}?model=models/native/").opened()
    page.tab.evaluate(
        """() => {
          window.blocked = 0; window.began = performance.now(); window.frames = 0;
          new PerformanceObserver((list) => { for (const e of list.getEntries()) window.blocked += e.duration; })
            .observe({ entryTypes: ['longtask'] });
          const tick = () => { window.frames += 1; requestAnimationFrame(tick); };
          tick();
        }"""
    )
    page.start(PROMPT, 400)
    page.tab.wait_for_function("document.querySelector('#output').dataset.ids.split(' ').length > 12")
    share, frames = page.tab.evaluate("[window.blocked / (performance.now() - window.began), window.frames]")
    assert share < 0.5  # were the model on the page's own thread, all the time would be long tasks
    assert frames > 1
    page.tab.click("#stop-generation")
    page.finish()
    assert 12 <= len(page.ids()) < 400
    assert not page.tab.is_visible("#error")
    assert len(page.generate(PROMPT, 3)) == 3  # it goes on working


def test_tokenizer_agrees_with_pythons(new_page: NewPage, server: Served, models: Path) -> None:
    page = new_page(server.address)
    for files in (["tokenizer.json", "tokenizer_config.json"], ["vocab.json", "merges.txt", "tokenizer_config.json"]):
        made = page.tab.evaluate(
            """async ([files, texts]) => {
              const { readTokenizer } = await import('./src/text.js');
              const read = async (f) => [f, new Uint8Array(await (await fetch('models/web/' + f)).arrayBuffer())];
              const codec = await readTokenizer(new Map(await Promise.all(files.map(read))));
              return texts.map((t) => { const ids = codec.encode(t); return [ids, codec.decode(ids)]; });
            }""",
            [files, TEXTS],
        )
        tokenizer = Tokenizer.from_file(str(models / "web" / "tokenizer.json"))
        wanted = [tokenizer.encode(text).ids for text in TEXTS]
        assert [ids for ids, _ in made] == wanted
        assert [text for _, text in made] == [tokenizer.decode(ids) for ids in wanted]


def test_prompt_that_does_not_fit(new_page: NewPage, server: Served) -> None:
    page = new_page(f"{server.address}?model=models/web/").opened()
    page.start(PROMPT, 4000)
    assert "exceed the model's context of 512; ask for" in page.error()
