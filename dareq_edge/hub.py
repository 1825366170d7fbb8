"""Where a model folder comes from: a local path, or a Hugging Face repository fetched as safetensors only."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from dareq_edge.errors import CheckpointError
from dareq_edge.manifest import refuse_packed

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_FILES = [
    "model*.safetensors",
    "model.safetensors.index.json",
    "*.json",
    "merges.txt",
    "vocab.txt",
    "*.model",
    "*.jinja",
]
_REPO = re.compile(r"[\w.-]+(/[\w.-]+)?")
_CONVERT = (
    'convert it once: python -c "from transformers import AutoModelForCausalLM as M, AutoTokenizer as T; '
    "[c.from_pretrained('{source}').save_pretrained('converted') for c in (M, T)]\" and use the folder converted"
)


def convert_hint(source: str) -> str:
    """The command that turns a checkpoint in another format into safetensors."""
    return _CONVERT.format(source=source)


def locate(source: str, revision: str | None = None, *, config_only: bool = False) -> tuple[Path, str | None]:
    """Folder of a checkpoint, downloaded if need be.

    A repository whose main branch holds no safetensors is looked up for the pull request that the hub's own
    conversion bot opens (``refs/pr/N``).

    Args:
        source: A local folder or a hub id such as "facebook/opt-125m".
        revision: Branch, tag or commit of a hub repository.
        config_only: Download config.json and nothing else; the repository may hold weights of any kind.

    Returns:
        The folder, and the commit it was downloaded at (``None`` for a local folder).

    Raises:
        CheckpointError: No such folder or repository, no network, or no safetensors.
        SpecError: The folder is packed.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        if revision is not None:
            raise CheckpointError(f"{source} is a local folder and has no revision {revision!r}; drop --revision")
        refuse_packed(path)
        return path, None
    if path.exists():
        raise CheckpointError(f"{source} is a file; give the folder that holds config.json and model.safetensors")
    if not _REPO.fullmatch(source) or source.startswith("."):
        raise CheckpointError(
            f"no folder {source}; give an existing model folder or a hub id such as facebook/opt-125m"
        )
    return _download(source, revision, config_only=config_only)


def _download(source: str, revision: str | None, *, config_only: bool) -> tuple[Path, str | None]:
    """Fetch a repository; the cache serves when the hub cannot be reached."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    api, files = HfApi(), ["config.json"] if config_only else _FILES
    try:
        commit = revision if config_only else _commit(api, source, revision)
        folder = api.snapshot_download(source, revision=commit, allow_patterns=files, ignore_patterns=["*/*"])
    except (RevisionNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"{source} has no revision {revision!r} on the Hugging Face hub; check --revision"
        ) from error
    except GatedRepoError as error:
        raise CheckpointError(f"{source} is gated; accept its terms on the hub and run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"no folder and no hub model {source}; check the name, or run `hf auth login` if the model is private"
        ) from error
    except (HfHubHTTPError, OSError) as error:  # requests' and huggingface_hub's connection errors are OSErrors
        return _cached(api, source, revision, files, error), revision
    return Path(folder), commit


def _commit(api: HfApi, source: str, revision: str | None) -> str:
    """The commit to download: that of ``revision`` if it has safetensors, else the conversion bot's."""
    info = api.model_info(source, revision=revision)
    if any(f.rfilename.endswith(".safetensors") and "/" not in f.rfilename for f in info.siblings or []):
        return str(info.sha)
    if revision is None:
        for talk in api.get_repo_discussions(source, author="SFconvertbot", discussion_type="pull_request"):
            pull = api.model_info(source, revision=f"refs/pr/{talk.num}")
            if any(f.rfilename in ("model.safetensors", "model.safetensors.index.json") for f in pull.siblings or []):
                return str(pull.sha)
    raise CheckpointError(f"{source} has no safetensors on the hub; {convert_hint(source)}")


def _cached(api: HfApi, source: str, revision: str | None, files: list[str], cause: Exception) -> Path:
    """The cached snapshot of a repository.

    Raises:
        CheckpointError: Nothing is cached.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(api.snapshot_download(source, revision=revision, local_files_only=True, allow_patterns=files))
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"no folder {source}, and the Hugging Face hub cannot be reached to download it "
            f"({type(cause).__name__}); connect to a network, or give a local model folder"
        ) from error
