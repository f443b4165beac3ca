"""`videogen generate`: from sentences to MP4 files, each with a contact sheet beside it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videogen.commands.outputs import check_output, name_outputs
from videogen.commands.references import read_references
from videogen.config import build_pipeline
from videogen.data.sheet import contact_sheet
from videogen.data.video import write_video
from videogen.text import TextEncoder


def generate(config: Mapping[str, Any], label: str = "") -> None:
    """Make a video of every sentence and print where it is.

    Args:
        config: composed for "generate".
        label: to go into the names of the files.

    Raises:
        ValueError: no sentence, an empty one, a size that doesn't fit, a path that can't be written, an image or film
            that can't be read, or one that the task or the model can't take.
    """
    sentences = read_sentences(config)
    paths = name_outputs(sentences, config["output"], config["seed"], label)
    for path in paths:
        check_output(path)
    references = read_references(config)
    pipeline = build_pipeline(config)
    warn_unknown(pipeline.text, [*sentences, config["negative_prompt"]])
    for start in range(0, len(sentences), config["batch_size"]):
        batch = slice(start, start + config["batch_size"])
        videos = pipeline(sentences[batch], **references, seed=config["seed"], progress=True)
        for path, video in zip(paths[batch], videos, strict=True):
            write_video(path, video, config["fps"])
            contact_sheet(video, path.with_suffix(".png"))
            print(path)
            print(path.with_suffix(".png"), flush=True)


def read_sentences(config: Mapping[str, Any]) -> list[str]:
    """The sentence, or those of the file `prompts`, one a line.

    Raises:
        ValueError: none, an empty one, or both a sentence and a file.
        OSError: the file can't be read.
    """
    sentence, file = config["prompt"], config["prompts"]
    if sentence is not None and file is not None:
        raise ValueError(f"a sentence ({sentence!r}) and a file of them (prompts={file}): give one of the two")
    if file is None:
        if sentence is None:
            raise ValueError('no prompt: say what the video should show, videogen generate "a red circle moving right"')
        if not sentence.strip():
            raise ValueError("the prompt is empty: say what the video should show")
        return [sentence]
    try:
        lines = Path(file).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts={file} is no UTF-8 text (byte {error.start}): save it as UTF-8") from error
    sentences = [line.strip() for line in lines if line.strip()]
    if not sentences:
        raise ValueError(f"prompts={file} holds no sentence: write one a line")
    return sentences


def warn_unknown(text: TextEncoder, sentences: Sequence[str]) -> None:
    """Say on stderr which words the text encoder never saw."""
    unknown = dict.fromkeys(word for sentence in sentences for word in text.unknown(sentence))
    if unknown:
        words = ", ".join(unknown)
        print(f"videogen: warning: the text encoder never saw: {words}; the video won't show it", file=sys.stderr)
