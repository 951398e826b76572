"""Attention over a packed piece of the prefix tree: one flat row of tokens, each seeing its own prefix and nothing else.

Registered with transformers as an attention implementation, so every architecture that goes through its AttentionInterface
can be packed. A piece is cut in chunks; the keys of a chunk are the root path of its first token and the chunk itself,
so the work is queries x (prefix + chunk) instead of the square of the piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.scoring.tree import PrefixTree, Run

NAME = "foretune_packed"
# Arguments that change no number here, or are handled below. Any other that is set means attention we do not know.
_HANDLED = {"scaling", "dropout", "sliding_window", "softcap", "is_causal", "position_ids", "use_cache", "cache_position"}
_HANDLED |= {"output_attentions", "output_hidden_states", "output_router_logits", "past_key_values", "deterministic"}


class UnpackableError(Exception):
    """The architecture asks for an attention that packing does not know: fall back to padded rows."""


@dataclass
class Chunk:
    """Tokens [begin, end) of a piece that attend together.

    `runs` are the intervals of the key space (carried tokens, then the piece's) that hold the root path of the first token;
    `depth` is the length of that path. `plain` marks a run without a branch that starts a row: causal, no mask.
    """

    begin: int
    end: int
    runs: list[Run]
    depth: int
    plain: bool
    masks: dict[int | None, Any] = field(default_factory=dict)

    def mask(self, window: int | None, exits: Any, reach: Any, dtype: Any) -> Any:
        """(q, depth + q) additive mask, made on the device, kept for the layers to come. Sliding windows count in depths.

        `exits` and `reach` are the piece's, on the device.
        """
        if window not in self.masks:
            import torch

            size, device = self.end - self.begin, exits.device
            exits, reach = exits[self.begin : self.end], reach[self.begin : self.end]
            here, path = torch.arange(size, device=device), torch.arange(self.depth, device=device)
            on_path = path[None, :] < exits[:, None]
            inside = (here[None, :] <= here[:, None]) & (here[:, None] < reach[None, :])
            seen = torch.cat([on_path, inside], dim=1)
            if window is not None:
                # ancestors inside the chunk are counted by row sums: a token's depth is its exit plus its ancestors here
                depths = exits + inside.sum(1) - 1
                keys = torch.cat([path, depths])
                seen &= keys[None, :] > depths[:, None] - window
            self.masks[window] = torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill_(~seen, float("-inf"))
        return self.masks[window]


@dataclass
class Piece:
    """Tokens [begin, end) of a tree, ready to attend.

    `carried` holds, layer by layer, keys and values (H, depth, D) of the root path of `begin`, from earlier pieces;
    `keep` are the intervals of the key space that the next piece needs; `kept` is where the layers leave them.
    For each token, `exits` (N,): how much of its chunk's root path it sees; `reach` (N,): one past the last token that continues
    it, counted from its chunk's beginning and cut at the chunk's end. `sight` is the two on the device, to be set before a pass.
    """

    begin: int
    end: int
    carry: int
    chunks: list[Chunk]
    keep: list[Run]
    carried: list[tuple[Any, Any]]
    exits: np.ndarray
    reach: np.ndarray
    sight: tuple[Any, Any] | None = None
    kept: list[tuple[Any, Any]] = field(default_factory=list)
    windows: set[int | None] = field(default_factory=set)
    layer: int = 0


def cut(tree: PrefixTree, begin: int, end: int, carried: list[tuple[Any, Any]], *, chunk: int, longest_plain: int) -> Piece:
    """Plan tokens [begin, end) of `tree`; `carried` are the keys and values that the previous piece kept.

    `chunk` bounds the tokens of a chunk, except for runs without a branch from a row's beginning (up to `longest_plain`).
    """
    carry = int(tree.depths[begin])
    chunks = []
    exits, reach = np.zeros(end - begin, dtype=np.int64), np.zeros(end - begin, dtype=np.int64)
    at = begin
    group = int(np.searchsorted(tree.starts, begin, side="right"))  # the next run
    while at < end:
        stop = min(end, int(tree.starts[group]) if group < len(tree.starts) else len(tree))
        plain = tree.depths[at] == 0 and chunk // 4 <= stop - at <= longest_plain
        if not plain:
            limit = min(at + chunk, end)
            while stop < limit:
                group += 1
                after = min(end, int(tree.starts[group]) if group < len(tree.starts) else len(tree))
                if after > limit and after - stop <= chunk:
                    break  # the next run would be torn: it begins the next chunk
                if tree.depths[stop] == 0 and after - stop >= chunk // 4:
                    break  # the next run is better off alone
                stop = after
            stop = min(stop, limit)
        while group < len(tree.starts) and tree.starts[group] <= stop:
            group += 1
        depth = int(tree.depths[at])
        chunks.append(Chunk(at - begin, stop - begin, _local(tree.root_path(at), begin, carry), depth, bool(plain)))
        exits[at - begin : stop - begin], reach[at - begin : stop - begin] = _sight(tree, at, stop)
        at = stop
    keep = _local(tree.root_path(end), begin, carry) if end < len(tree) else []
    return Piece(begin, end, carry, chunks, keep, carried, exits, reach)


def _sight(tree: PrefixTree, begin: int, end: int) -> tuple[np.ndarray, np.ndarray]:
    """`exits` and `reach` (see Piece) of a chunk [begin, end)."""
    size = end - begin
    reach = np.minimum(tree.ends[begin:end], end) - begin
    # ancestors inside the chunk: those whose subtree is still open
    closing = np.bincount(reach, minlength=size + 1)[:size].cumsum()
    return tree.depths[begin:end] - (np.arange(size) - closing), reach


def _local(runs: list[Run], origin: int, carry: int) -> list[Run]:
    """Intervals of the tree as intervals of the key space. What stands before `origin` is carried, at its own depth."""
    found: list[Run] = []
    depth = 0
    for begin, end in runs:
        before = max(0, min(end, origin) - begin)
        if before:
            found.append((depth, depth + before))
        if end - begin > before:
            found.append((carry + begin + before - origin, carry + end - origin))
        depth += end - begin
    joined: list[Run] = []
    for begin, end in found:
        if joined and joined[-1][1] == begin:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((begin, end))
    return joined


_active: ContextVar[Piece | None] = ContextVar("piece", default=None)


@contextmanager
def packed(module: Any, piece: Piece) -> Iterator[None]:
    """Within: forward passes of `module` attend by `piece`."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    configs = {
        id(m.config): m.config for m in module.modules() if hasattr(getattr(m, "config", None), "_attn_implementation_internal")
    }
    before = [(config, config._attn_implementation_internal) for config in configs.values()]
    token = _active.set(piece)
    try:
        for config, _ in before:
            config._attn_implementation_internal = NAME
        yield
    finally:
        _active.reset(token)
        for config, implementation in before:
            config._attn_implementation_internal = implementation


def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any = None, **options: Any) -> tuple[Any, None]:
    """transformers' attention function: query (1, H, N, D), key and value (1, G, N, D); returns (1, N, H, D)."""
    import torch

    piece = _active.get()
    if piece is None or piece.sight is None or query.shape[0] != 1 or key.shape[2] != piece.end - piece.begin:
        raise UnpackableError("attention outside of a packed pass")
    if options.get("is_causal") is False or getattr(module, "is_causal", True) is False:
        raise UnpackableError("attention that is not causal")
    strange = {name for name, given in options.items() if given is not None and given is not False and name not in _HANDLED}
    if strange or attention_mask is not None:
        raise UnpackableError(f"attention with {', '.join(sorted(strange)) or 'a mask of its own'}")
    q, k, v = query[0], key[0], value[0]
    window, softcap, scale = options.get("sliding_window"), options.get("softcap"), options.get("scaling")
    piece.windows.add(window)
    if piece.carry:
        keys, values = piece.carried[piece.layer]
        k, v = torch.cat([keys, k], dim=1), torch.cat([values, v], dim=1)
    if piece.keep:
        piece.kept.append(tuple(torch.cat([t[:, b:e] for b, e in piece.keep], dim=1) for t in (k, v)))  # type: ignore[arg-type]
    piece.layer += 1
    repeat = q.shape[0] // k.shape[0]
    out = q.new_empty(1, q.shape[1], q.shape[0], v.shape[-1])
    room = max((chunk.depth + chunk.end - chunk.begin for chunk in piece.chunks if not chunk.plain), default=0)
    k_room, v_room = (t.new_empty(t.shape[0], repeat, room, t.shape[-1]) for t in (k, v))
    laid: list[Run] = []
    for chunk in piece.chunks:
        begin, end = piece.carry + chunk.begin, piece.carry + chunk.end
        queries = q[None, :, chunk.begin : chunk.end]
        if chunk.plain and (window is None or end - begin <= window):
            result = _sdpa(queries, _spread(k[:, begin:end], repeat), _spread(v[:, begin:end], repeat), None, scale, softcap)
        else:
            runs = [*chunk.runs, (begin, end)]
            _lay(k_room, v_room, k, v, laid, runs)
            laid = chunk.runs
            size = chunk.depth + end - begin
            mask = chunk.mask(window, *piece.sight, q.dtype)
            result = _sdpa(
                queries, k_room[:, :, :size].flatten(0, 1)[None], v_room[:, :, :size].flatten(0, 1)[None], mask, scale, softcap
            )
        out[:, chunk.begin : chunk.end] = result.transpose(1, 2)
    return out, None


def _lay(k_room: Any, v_room: Any, k: Any, v: Any, laid: list[Run], runs: list[Run]) -> None:
    """Lay the keys and values of `runs` side by side in the rooms; what `laid` has in common with them stands there already."""
    at = place = 0
    for (begin, end), old in zip(runs, laid, strict=False):
        if begin != old[0]:
            break
        common = min(end, old[1]) - begin
        at += common
        if (begin, end) != old:
            runs = [*runs[:place], (begin + common, end), *runs[place + 1 :]]
            break
        place += 1
    for begin, end in runs[place:]:
        if end > begin:
            k_room[:, :, at : at + end - begin] = k[:, None, begin:end]
            v_room[:, :, at : at + end - begin] = v[:, None, begin:end]
            at += end - begin


def _spread(heads: Any, repeat: int) -> Any:
    """(G, N, D) -> (1, G x repeat, N, D): every group of query heads gets its keys."""
    return (heads if repeat == 1 else heads.repeat_interleave(repeat, dim=0))[None]


def _sdpa(q: Any, k: Any, v: Any, mask: Any, scale: float | None, softcap: float | None) -> Any:
    import torch

    if softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, scale=scale)
    if mask is None:
        size = q.shape[-2]
        mask = torch.full((size, size), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = torch.tanh(scores / softcap) * softcap + mask
    return scores.softmax(-1, dtype=torch.float32).to(v.dtype) @ v
