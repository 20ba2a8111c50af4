"""INT8 arithmetic: exact integers on every path, and what the activations' scales do with awkward rows."""

import sys
from types import SimpleNamespace

import pytest
import torch

from longlive_core.quant import dequantise, int8, int8_linear, int_mm, quantise_rows

# rows, inner, columns: below what cuBLAS takes, odd, one, and longer than float32 sums exactly
SHAPES = [(1, 8, 8), (16, 16, 16), (17, 24, 40), (3, 5, 7), (1, 1, 1), (33, 1025, 9), (2, 8960, 3), (0, 8, 8)]
PATHS = {"chosen": int_mm, "padded": int8.padded_int_mm, "float": int8.float_int_mm}


def integers(rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-128, 128, (rows, columns), generator=generator, dtype=torch.int8)


@pytest.mark.parametrize("product", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_products_are_exact(product, m, k, n):
    """Forbids rounding in the sums, and padding that shows: equal to 64-bit integers, element by element."""
    a, b = integers(m, k, 0), integers(n, k, 1).t()
    result = product(a, b)
    assert result.dtype == torch.int32
    assert torch.equal(result.long(), a.long() @ b.long())


@pytest.mark.parametrize("product", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("signs", [(127, 127), (127, -127), (-128, -128)])
def test_the_largest_sums_are_exact(product, signs):
    """Forbids 16-bit intermediates that clip, and float32 sums past 2**24 in one piece."""
    a, b = torch.full((4, 8960), signs[0], dtype=torch.int8), torch.full((8960, 4), signs[1], dtype=torch.int8)
    assert torch.equal(product(a, b).long(), a.long() @ b.long())


def test_a_cpu_that_clips_is_found_out(monkeypatch):
    """Forbids trusting `torch._int_mm` on a CPU where it is wrong."""

    def clipping(a, b):
        return (a.long() @ b.long()).clamp(-(2**20), 2**20).int()

    int8._cpu_is_exact.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", clipping)
    try:
        assert not int8._cpu_is_exact()
        a = torch.full((4, 300), 127, dtype=torch.int8)
        assert torch.equal(int_mm(a, a.t()).long(), a.long() @ a.t().long())
    finally:
        int8._cpu_is_exact.cache_clear()


def test_padding_meets_what_cublas_wants(monkeypatch):
    """Forbids shapes that `torch._int_mm` refuses on CUDA (M > 16, K and N in multiples of 8)."""
    seen = []

    def strict(a, b):
        seen.append((*a.shape, b.shape[1]))
        return (a.long() @ b.long()).int()

    monkeypatch.setattr(torch, "_int_mm", strict)
    for m, k, n in SHAPES:
        int8.padded_int_mm(integers(m, k, 0), integers(n, k, 1).t())
    assert all(m > 16 and k % 8 == 0 and n % 8 == 0 for m, k, n in seen)


def test_rows_come_back_within_half_a_step():
    """Forbids a scale over the wrong axis, truncation instead of rounding, and the use of -128."""
    x = torch.randn(5, 7, 64, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 6, 7)[:, None]
    q, scale = quantise_rows(x)
    assert q.dtype == torch.int8 and q.shape == x.shape and scale.shape == (5, 7, 1) and scale.dtype == torch.float32
    assert (q.float() * scale - x).abs().le(scale * 0.5001).all()
    assert q.abs().amax(-1).eq(127).all() and q.min() >= -127


def test_scales_are_float32():
    """Forbids scales in the activations' precision: 1/127 of float16's smallest number is zero there."""
    x = torch.full((2, 8), 6e-8, dtype=torch.float16)
    q, scale = quantise_rows(x)
    torch.testing.assert_close(q.float() * scale, x.float())


def linear_weights(n=24, k=40, dtype=torch.float32):
    generator = torch.Generator().manual_seed(2)
    weight, scale = quantise_rows(torch.randn(n, k, generator=generator))
    return weight, scale, torch.randn(n, generator=generator).to(dtype)


def reference(x, weight, scale, bias):
    """The layer in 64-bit integers and float64."""
    q, token_scale = quantise_rows(x)
    sums = q.long() @ weight.long().t()
    return sums.double() * token_scale.double() * scale.reshape(-1).double() + bias.double()


@pytest.mark.parametrize("shape", [(40,), (1, 40), (3, 40), (2, 5, 40), (2, 3, 4, 40), (0, 40), (2, 0, 40)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_layer_equals_the_exact_one(shape, dtype):
    """Forbids lost leading axes, scales on the wrong side, and another dtype than the input's."""
    weight, scale, bias = linear_weights(dtype=dtype)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    y = int8_linear(x, weight, scale, bias)
    expected = reference(x, weight, scale, bias)
    assert y.shape == expected.shape and y.dtype == dtype
    tolerance = {torch.float32: 1e-6, torch.bfloat16: 8e-3, torch.float16: 1e-3}[dtype]
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)


def test_slices_of_rows_join_without_a_seam(monkeypatch):
    """Forbids rows that are left out or written twice where a long input is worked off in slices."""
    weight, scale, bias = linear_weights()
    x = torch.randn(50, 40, generator=torch.Generator().manual_seed(4))
    whole = int8_linear(x, weight, scale, bias)
    monkeypatch.setattr(int8, "SUMS_AT_ONCE", 24 * 7)
    assert torch.equal(int8_linear(x, weight, scale, bias), whole)


def test_tokens_do_not_touch_one_another():
    """Forbids one scale for all tokens: a loud token would drown the others."""
    weight, scale, bias = linear_weights()
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(5))
    loud = x.clone()
    loud[3] *= 1e4
    others = [0, 1, 2, 4, 5]
    assert torch.equal(int8_linear(loud, weight, scale, bias)[others], int8_linear(x, weight, scale, bias)[others])


def test_a_token_of_zeros_gives_the_bias():
    """Forbids 0 / 0, whose integer depends on the machine."""
    integers_of_zero, scale_of_zero = quantise_rows(torch.zeros(2, 8))
    assert not integers_of_zero.any() and scale_of_zero.gt(0).all()
    weight, scale, bias = linear_weights()
    x = torch.randn(4, 40)
    x[1] = 0
    assert torch.equal(int8_linear(x, weight, scale, bias)[1], bias)
    assert torch.equal(int8_linear(x, weight, scale)[1], torch.zeros(24))


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_visible(poison):
    """Forbids NaN and infinities that turn into harmless integers: a broken model would look like a bad one."""
    weight, scale, bias = linear_weights()
    x = torch.randn(3, 40)
    x[1, 7] = poison
    y = int8_linear(x, weight, scale, bias)
    assert not y[1].isfinite().any() and y[[0, 2]].isfinite().all()


def test_one_scale_for_the_whole_weight_works():
    """Forbids refusing the layout's older form with one scale per tensor."""
    weight, _, bias = linear_weights()
    x, scale = torch.randn(3, 40), torch.tensor(0.01)
    expected = reference(x, weight, scale, bias)
    torch.testing.assert_close(int8_linear(x, weight, scale, bias).double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(dequantise(weight, scale), weight.float() * 0.01)


def test_gradients_are_refused():
    """Forbids training that silently learns nothing."""
    weight, scale, bias = linear_weights()
    with pytest.raises(RuntimeError, match="no gradients"):
        int8_linear(torch.randn(2, 40, requires_grad=True), weight, scale, bias)


BACKENDS = {
    "fast": ({"cuda": True, "eager": True}, True),
    "eager only": ({"eager": True}, False),
    "switched off": ({"triton": False, "eager": True}, False),
}


@pytest.mark.parametrize(("backends", "taken"), BACKENDS.values(), ids=BACKENDS)
def test_kitchen_is_taken_where_it_is_faster(monkeypatch, backends, taken):
    """Forbids ignoring an installed comfy-kitchen, and taking its eager backend, which gains nothing."""
    status = {
        name: {"available": True, "disabled": not enabled, "capabilities": ["int8_linear"]}
        for name, enabled in backends.items()
    }
    kernel = object()
    kitchen = SimpleNamespace(list_backends=lambda: status, int8_linear=kernel)
    monkeypatch.setitem(sys.modules, "comfy_kitchen", kitchen)
    int8._kitchen_linear.cache_clear()
    try:
        assert int8._kitchen_linear() is (kernel if taken else None)
    finally:
        int8._kitchen_linear.cache_clear()
