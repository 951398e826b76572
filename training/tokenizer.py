"""The one tokenizer that all variants of a zoo share: a byte-level BPE with pad, bos, eos, mask, separator and sentinels.

It is trained on the recipe's own corpora, in equal parts, so that no variant's text is favoured. A small vocabulary is a
choice: in a model of a million parameters the output layer is most of the work.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.objectives import Specials

NAMED = ("<pad>", "<s>", "</s>", "<unk>", "<mask>", "<sep>")


def train(texts: Iterable[str], vocabulary: int, sentinels: int) -> Any:
    """A `tokenizers.Tokenizer` of `vocabulary` entries, specials included, trained on `texts`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[*NAMED, *(f"<extra_id_{i}>" for i in range(sentinels))],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    raw.train_from_iterator(texts, trainer)
    return raw


def load(path: Path) -> Any:
    """The `tokenizers.Tokenizer` saved at `path`."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def specials(raw: Any) -> Specials:
    """The ids that the objectives need."""
    sentinels: list[int] = []
    while (entry := raw.token_to_id(f"<extra_id_{len(sentinels)}>")) is not None:
        sentinels.append(entry)
    pad, bos, eos, _, mask, sep = (raw.token_to_id(name) for name in NAMED)
    return Specials(pad, bos, eos, mask, sep, tuple(sentinels))


def for_kind(raw: Any, kind: str) -> Any:
    """The transformers tokenizer that is saved beside a checkpoint: a seq2seq one appends </s>, a masked one wraps in <s> ...
    </s>.
    """
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer.from_str(raw.to_str())
    wrap = {"seq2seq": ("$A </s>", ["</s>"]), "masked": ("<s> $A </s>", ["<s>", "</s>"])}
    if kind in wrap:
        single, names = wrap[kind]
        own.post_processor = processors.TemplateProcessing(single=single, special_tokens=[(n, own.token_to_id(n)) for n in names])
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
        sep_token="<sep>",
        additional_special_tokens=[f"<extra_id_{i}>" for i in range(len(specials(raw).sentinels))],
    )
