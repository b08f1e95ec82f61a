"""Stores: formats, their errors and their bytes; every cache that keeps keys and values decodes with each of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from cache_zoo import Cache, KVCache, Rows, UsageError, caches, make_cache
from cache_zoo.cache_bytes import held_bytes
from cache_zoo.state import Canvas, Columns
from cache_zoo.stores import STORES, QuantisedArray, Store, make_store, require_store, store_problem
from generation import generate
from models import Transformer, load_model
from models.loading import resolve_checkpoint
from models.tokenizer import load_tokenizer

LAYERS, BATCH, LENGTH, HEADS, WIDTH = 3, 2, 7, 2, 4
QUANTISED = ("int8", "fp8")
KEEPING = [entry.name for entry in caches.entries() if issubclass(caches.get(entry.name), KVCache)]


def canvas(store: str, padding: int = 0, dtype: torch.dtype = torch.float32, width: int = WIDTH) -> Canvas:
    """Two sequences of 7 columns, the second with ``padding``."""
    valid = torch.ones(BATCH, LENGTH, dtype=torch.bool)
    valid[1, :padding] = False
    return Canvas(
        valid=valid,
        lengths=[LENGTH, LENGTH - padding],
        positions=(valid.cumsum(dim=1) - 1).clamp_(min=0),
        prompt_length=3,
        gen_length=4,
        block_length=2,
        shift=0,
        num_layers=LAYERS,
        num_heads=HEADS,
        num_kv_heads=HEADS,
        head_dim=width,
        hidden_size=HEADS * width,
        dtype=dtype,
        store=store,
    )


def random_rows(generator: torch.Generator) -> Rows:
    mask = torch.rand(BATCH, LENGTH, generator=generator) < 0.5
    mask[0, 0] = True
    return Rows.from_mask(mask)


def all_columns(store: Store, layer: int) -> tuple[Tensor, Tensor]:
    return store.read(layer, canvas("native").all_columns)


def error_bound(name: str, exact: Tensor) -> Tensor:
    """Largest error of each number: half a step of the codes, and one rounding of a scale of 8 bits."""
    largest = exact.abs().amax(dim=-1, keepdim=True) * (1 + 2**-8)
    if name == "int8":
        return (largest / 127 / 2).expand_as(exact)
    # normal numbers of e4m3 have 4 significant bits; below 2^-6 of the scaled number steps are 2^-9
    return (exact.abs() * 2**-4).maximum(largest / 448 * 2**-10)


@pytest.mark.parametrize("name", STORES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_reads_what_was_written_last(name: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    store = make_store(canvas(name, dtype=dtype))
    expected = torch.zeros(2, LAYERS, BATCH, LENGTH, HEADS, WIDTH)
    everywhere = Rows.from_mask(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    for number in range(3 * LAYERS):
        layer = number % LAYERS
        rows = everywhere if number < LAYERS else random_rows(generator)
        sizes = torch.logspace(-2, 2, len(rows))[:, None, None]
        packed = (torch.randn(2, len(rows), HEADS, WIDTH, generator=generator) * sizes).to(dtype)
        store.write(layer, rows, *packed)
        for part in range(2):
            rows.write(expected[part, layer], packed[part].float())
    for layer in range(LAYERS):
        read = all_columns(store, layer)
        some = random_rows(generator)
        packed_read = store.read_rows(layer, some)
        assert torch.equal(store.read_values(layer, some), packed_read[1])
        for part in range(2):
            exact = expected[part, layer]
            assert read[part].dtype == packed_read[part].dtype == dtype
            assert torch.equal(packed_read[part], some.read(read[part]))
            if name == "native":
                assert torch.equal(read[part].float(), exact)
            else:
                rounding = exact.abs() * torch.finfo(dtype).eps
                assert ((read[part].float() - exact).abs() <= error_bound(name, exact) + rounding).all()


@pytest.mark.parametrize(
    ("name", "vector", "expected"),
    [
        # scale 2: 127, -63.5, 0.5 and 1.5, ties to even
        ("int8", [254.0, -127.0, 1.0, 3.0], [254.0, -128.0, 0.0, 4.0]),
        # scale 1: steps of 32 from 256 on, of 1/32 from 1/4 on, of 2 from 16 on (a tie to the even mantissa)
        ("fp8", [448.0, 0.3, 1.0, -17.0], [448.0, 0.3125, 1.0, -16.0]),
    ],
)
def test_codes_by_hand(name: str, vector: list[float], expected: list[float]) -> None:
    store = make_store(canvas(name))
    row = Rows(torch.tensor([3]), [1, 0], (BATCH, LENGTH))
    packed = torch.tensor([[vector, [0.0] * WIDTH]])  # another head
    store.write(1, row, packed, -packed)
    key, value = store.read_rows(1, row)
    assert key.tolist() == [[expected, [0.0] * WIDTH]]
    assert (-value).tolist() == [[expected, [0.0] * WIDTH]]


@pytest.mark.parametrize("name", QUANTISED)
def test_a_large_number_costs_only_its_own_token_and_head(name: str) -> None:
    rows = Rows.from_mask(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    packed = torch.randn(len(rows), HEADS, WIDTH, generator=torch.Generator().manual_seed(2))
    spiked = packed.clone()
    spiked[4, 1, 2] = 1e4
    read = []
    for given in (packed, spiked):
        store = make_store(canvas(name))
        store.write(0, rows, given, given)
        read.append(store.read_rows(0, rows)[0])
    same = (read[0] == read[1]).all(dim=-1)
    assert not same[4, 1]
    assert same.sum() == same.numel() - 1


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("size", [0.0, 1e-42, 1e-30, 3e38])
def test_numbers_of_any_size(name: str, size: float) -> None:
    store = make_store(canvas(name))
    rows = Rows(torch.tensor([0]), [1, 0], (BATCH, LENGTH))
    packed = torch.tensor([[[1.0, -0.5, 0.25, 0.0]] * HEADS]) * size
    store.write(0, rows, packed, packed)
    for read in store.read_rows(0, rows):
        assert ((read - packed).abs() <= error_bound(name, packed) + 1e-40).all()


@pytest.mark.parametrize("name", QUANTISED)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_visible(name: str, bad: float) -> None:
    store = make_store(canvas(name))
    rows = Rows(torch.tensor([0, 9]), [1, 1], (BATCH, LENGTH))
    packed = torch.ones(2, HEADS, WIDTH)
    packed[0, 1, 2] = bad
    store.write(0, rows, packed, packed)
    for read in store.read_rows(0, rows):
        assert not read[0, 1].isfinite().any()
        assert read[0, 0].isfinite().all()
        assert read[1].isfinite().all()


def test_the_native_format_reads_its_own_memory() -> None:
    store = make_store(canvas("native"))
    rows = Rows.from_mask(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    for layer in (0, 1):
        store.write(layer, rows, *torch.randn(2, len(rows), HEADS, WIDTH))
    first = all_columns(store, 1)
    store.write(1, rows, *torch.zeros(2, len(rows), HEADS, WIDTH))
    assert not first[0].any(), "a copy"
    assert not first[1].any(), "a copy"
    assert first[0].is_contiguous()


@pytest.mark.parametrize("name", STORES)
def test_reads_only_the_columns_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(canvas(name))
    rows = Rows.from_mask(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    store.write(0, rows, *torch.randn(2, len(rows), HEADS, WIDTH))
    whole = all_columns(store, 0)
    visible = torch.tensor([[0, 1, 1, 0, 1, 0, 0], [1, 1, 0, 0, 0, 0, 0]]).bool()
    columns = Columns.from_mask(visible)
    decoded: list[tuple[int, ...]] = []
    if issubclass(array := STORES[name], QuantisedArray):
        decode = array.decode

        def watched(self: QuantisedArray, codes: Tensor) -> Tensor:
            decoded.append(codes.shape)
            return decode(self, codes)

        monkeypatch.setattr(array, "decode", watched)
    for part, some in zip(whole, store.read(0, columns), strict=True):
        assert torch.equal(some[0], part[0, [1, 2, 4]])
        assert torch.equal(some[1, :2], part[1, :2])
        assert some.isfinite().all()
    assert decoded == [(BATCH, 3, HEADS, WIDTH)] * (2 * (name in QUANTISED))


@pytest.mark.parametrize("name", STORES)
def test_the_read_of_a_layer_that_was_never_written_is_an_error(name: str) -> None:
    shape = canvas(name)
    store = make_store(shape)
    rows = Rows.from_mask(shape.valid)
    packed = torch.randn(2, len(rows), HEADS, WIDTH)
    store.write(0, rows, *packed)
    store.write(2, rows, key=packed[0])
    for read, argument in ((store.read, shape.all_columns), (store.read_rows, rows), (store.read_values, rows)):
        read(0, argument)
        with pytest.raises(RuntimeError, match="no keys and values of layer 1"):
            read(1, argument)
        with pytest.raises(RuntimeError, match="no values of layer 2"):
            read(2, argument)
    store.write(2, rows, value=packed[1])
    assert torch.equal(all_columns(store, 2)[0], all_columns(store, 0)[0])
    assert torch.equal(all_columns(store, 2)[1], all_columns(store, 0)[1])


@pytest.mark.parametrize("name", STORES)
def test_padding_is_zero_and_other_fresh_memory_is_not_made_finite(name: str) -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN
        store = make_store(canvas(name, padding=2))
        row = Rows(torch.tensor([0]), [1, 0], (BATCH, LENGTH))
        store.write(0, row, *torch.ones(2, 1, HEADS, WIDTH))
    finally:
        torch.use_deterministic_algorithms(before)
    for read in all_columns(store, 0):
        assert (read[1, :2] == 0).all()
        assert read[1, 2:].isnan().all(), "the contract finds caches that read fresh memory by its NaN"


@pytest.mark.parametrize("name", STORES)
def test_keep_drops_sequences(name: str) -> None:
    store = make_store(canvas(name))
    rows = Rows.from_mask(torch.ones(BATCH, LENGTH, dtype=torch.bool))
    for layer in range(LAYERS):
        store.write(layer, rows, *torch.randn(2, len(rows), HEADS, WIDTH))
    whole, size = all_columns(store, 2), held_bytes(store)
    store.keep(torch.tensor([1]))
    assert held_bytes(store) * BATCH == size
    alone = Rows.from_mask(torch.ones(1, LENGTH, dtype=torch.bool))
    for part, before in zip(store.read_rows(2, alone), whole, strict=True):
        assert torch.equal(part, before[1])
    store.write(2, alone, *torch.zeros(2, LENGTH, HEADS, WIDTH))
    assert not store.read_rows(2, alone)[0].any()


def test_bytes() -> None:
    def size(name: str, dtype: torch.dtype) -> int:
        return held_bytes(make_store(canvas(name, dtype=dtype, width=128)))

    vectors = 2 * LAYERS * BATCH * LENGTH * HEADS
    assert size("native", torch.float32) == vectors * 512
    assert size("native", torch.bfloat16) == vectors * 256
    for name in QUANTISED:
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            assert size(name, dtype) == vectors * 130
    assert size("int8", torch.bfloat16) <= 0.53 * size("native", torch.bfloat16)


def test_an_unknown_store_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown store 'int9': did you mean 'int8'"):
        require_store("int9")
    with pytest.raises(UsageError, match="unknown store 'nativ': did you mean 'native'"):
        make_store(canvas("nativ"))
    with pytest.raises(UsageError, match=r"unknown store 8: .* fp8, int8, native"):
        require_store(8)


@pytest.mark.parametrize("name", QUANTISED)
def test_a_cache_that_keeps_no_keys_and_values_is_refused(name: str) -> None:
    assert store_problem(Cache(), "native") is None
    assert store_problem(KVCache(), name) is None
    require_store(name, KVCache())
    with pytest.raises(UsageError, match=f"store={name} is a format of stored keys and values, and Cache stores none"):
        require_store(name, Cache())


def test_a_device_without_float8_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> Tensor:
        raise RuntimeError("no kernel for Float8_e4m3fn\nmore lines")

    shape = canvas("fp8")
    monkeypatch.setattr("cache_zoo.stores.torch.ones", refuse)
    with pytest.raises(UsageError, match="store=fp8 is not available: device 'cpu' can't convert to float8: no kernel"):
        make_store(shape)


@pytest.mark.sampled(8)
@pytest.mark.parametrize("family", ["llada", "dream"])
@pytest.mark.parametrize("store", QUANTISED)
@pytest.mark.parametrize("cache", KEEPING)
def test_every_cache_takes_every_store(
    cache: str, store: str, family: str, tiny_models: dict[str, Transformer], prompts: list[list[int]]
) -> None:
    model = tiny_models[family]
    options: dict[str, Any] = {"gen_length": 16, "block_length": 8, "seed": 5}
    if make_cache(cache).needs_planned:
        options["alg"] = "random"
    batch = generate(model, prompts, cache, store=store, **options)
    assert (batch.tokens != model.config.mask_id).all()
    alone = generate(model, prompts[:1], cache, store=store, **options)
    assert torch.equal(alone.tokens[0], batch.tokens[0]), "a batch decodes something else"
    native = generate(model, prompts, cache, **options)
    assert batch.counts.cache_bytes <= native.counts.cache_bytes


def test_a_smaller_store_is_reported(tiny_models: dict[str, Transformer], prompts: list[list[int]]) -> None:
    model = tiny_models["llada"]
    sizes = {
        store: generate(model, prompts, KVCache(), gen_length=16, block_length=8, store=store).counts.cache_bytes
        for store in STORES
    }
    config, columns = model.config, len(prompts) * (max(map(len, prompts)) + 16)
    vectors = 2 * config.num_layers * columns * config.num_kv_heads
    assert sizes["native"] == vectors * 4 * config.head_dim
    assert sizes["int8"] == sizes["fp8"] == vectors * (config.head_dim + 2)


@pytest.mark.parametrize("store", QUANTISED)
def test_a_quantised_store_decodes_nearly_the_same(store: str) -> None:
    model = load_model("nano-llada")
    question = "Question: Tom has 12 pens and buys 7 more. How many pens does Tom have now?\nAnswer:"
    ids = load_tokenizer(resolve_checkpoint("nano-llada")).encode(question)
    options: dict[str, Any] = {"gen_length": 32, "block_length": 16}
    exact, rough = (generate(model, [ids], KVCache(), store=name, **options).tokens for name in ("native", store))
    assert (exact == rough).float().mean() >= 0.9
