#include "kernels/fp8.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

bool is_number_rows(const ConstTensor& x) {
    return x.rank() == 2 && (x.stride(1) == 1 || x.size(1) == 1) &&
           (x.dtype() == DType::kF32 || x.dtype() == DType::kBF16);
}

bool is_fp8(const ConstFp8Rows& rows) {
    return is_fp8_rows(rows, rows.values.shape());
}

Arena& scratch(Context& ctx) {
    return std::visit([](auto& c) -> Arena& { return c.scratch(); }, ctx);
}

Fp8Rows take(Arena::Frame& frame, int64_t rows, int64_t width) {
    return {frame.take(DType::kF8E4M3, {rows, width}), frame.take(DType::kF32, {rows})};
}

/// x, quantised into the frame's memory.
ConstFp8Rows quantized(Context& ctx, Arena::Frame& frame, const ConstTensor& x) {
    PASTUR_CHECK(x.rank() == 2, "fp8 GEMM: {} is not a matrix", pastur::describe(x));
    const Fp8Rows rows = take(frame, x.size(0), x.size(1));
    quantize_rows(ctx, rows, x);
    return rows;
}

/// The columns of x, quantised into the frame's memory.
ConstFp8Rows quantized_columns(Context& ctx, Arena::Frame& frame, const ConstTensor& x) {
    PASTUR_CHECK(x.rank() == 2, "fp8 GEMM: {} is not a matrix", pastur::describe(x));
    const Fp8Rows columns = take(frame, x.size(1), x.size(0));
    quantize_columns(ctx, columns, x);
    return columns;
}

void fp8_gemm(Context& ctx, OpFamily family, const char* op, const Fp8Gemm& p) {
    const auto& [y, x, w, addend, fast_accumulation] = p;
    PASTUR_CHECK(is_fp8(x) && is_fp8(w) && x.width() == w.width() && fp8_takes(w.rows(), w.width()) &&
                     fp8_writes(y) && is_number_rows(y) && y.size(0) == x.rows() && y.size(1) == w.rows(),
                 "{}: y {}, x {}, w {}", op, pastur::describe(y), describe(x), describe(w));
    PASTUR_CHECK(addend.empty() || (is_number_rows(addend) && addend.shape() == y.shape() &&
                                    addend.dtype() == y.dtype() && fp8_writes(addend)),
                 "{}: addend {}, y {}", op, pastur::describe(addend), pastur::describe(y));
    const double flops = 2.0 * static_cast<double>(y.numel()) * static_cast<double>(x.width());
    const OpScope scope(ctx, family, flops, bytes_of(y, x.values, x.scales, w.values, w.scales, addend));
    std::visit([&](auto& c) { fp8_gemm(c, p); }, ctx);
}

}  // namespace

bool is_fp8_rows(const ConstFp8Rows& rows, const Shape& shape) {
    const auto& [values, scales] = rows;
    return values.rank() == 2 && values.shape() == shape && values.contiguous() &&
           values.dtype() == DType::kF8E4M3 && scales.shape() == Shape{shape[0]} && scales.contiguous() &&
           scales.dtype() == DType::kF32;
}

std::string describe(const ConstFp8Rows& rows) {
    return fmt::format("{} by {}", describe(rows.values), describe(rows.scales));
}

void check_quantized(const char* op, const Fp8Rows& quantized, const ConstTensor& x) {
    PASTUR_CHECK(quantized.empty() || is_fp8_rows(quantized, x.shape()), "{}: quantised {} of {}", op,
                 describe(quantized), describe(x));
}

bool fp8_writes(const ConstTensor& y) {
    return reinterpret_cast<uintptr_t>(y.bytes()) % 16 == 0 && y.stride(0) * size_of(y.dtype()) % 16 == 0;
}

void quantize_rows(Context& ctx, const Fp8Rows& out, ConstTensor x) {
    PASTUR_CHECK(is_number_rows(x) && is_fp8_rows(out, x.shape()), "quantize_rows: {} of {}", describe(out),
                 pastur::describe(x));
    const OpScope scope(ctx, OpFamily::kQuantize, 0, bytes_of(x, out.values, out.scales));
    std::visit([&](auto& c) { quantize_rows(c, out, x); }, ctx);
}

void quantize_columns(Context& ctx, const Fp8Rows& out, ConstTensor x) {
    PASTUR_CHECK(is_number_rows(x) && is_fp8_rows(out, {x.size(1), x.size(0)}), "quantize_columns: {} of {}",
                 describe(out), pastur::describe(x));
    const OpScope scope(ctx, OpFamily::kQuantize, 0, bytes_of(x, out.values, out.scales));
    std::visit([&](auto& c) { quantize_columns(c, out, x); }, ctx);
}

void linear_forward(Context& ctx, Tensor y, const ConstFp8Rows& x, const ConstFp8Rows& w,
                    ConstTensor residual) {
    fp8_gemm(ctx, OpFamily::kMatmulForward, "linear_forward", {y, x, w, residual, true});
}

void linear_forward(Context& ctx, Tensor y, ConstTensor x, const ConstFp8Rows& w, ConstTensor residual) {
    Arena::Frame frame(scratch(ctx), "linear_forward in fp8");
    linear_forward(ctx, y, quantized(ctx, frame, x), w, residual);
}

void linear_backward_input(Context& ctx, Tensor dx, const ConstFp8Rows& dy, const ConstFp8Rows& w_columns,
                           Update update) {
    const ConstTensor addend = update == Update::kAccumulate ? ConstTensor(dx) : ConstTensor();
    fp8_gemm(ctx, OpFamily::kMatmulBackwardInput, "linear_backward_input",
             {dx, dy, w_columns, addend, false});
}

void linear_backward_input(Context& ctx, Tensor dx, ConstTensor dy, const ConstFp8Rows& w_columns,
                           Update update) {
    Arena::Frame frame(scratch(ctx), "linear_backward_input in fp8");
    linear_backward_input(ctx, dx, quantized(ctx, frame, dy), w_columns, update);
}

void linear_backward_weight(Context& ctx, Tensor dw, const ConstFp8Rows& dy_columns,
                            const ConstFp8Rows& x_columns, Update update) {
    PASTUR_CHECK(dw.dtype() == DType::kF32, "linear_backward_weight: dw {}", pastur::describe(dw));
    const ConstTensor addend = update == Update::kAccumulate ? ConstTensor(dw) : ConstTensor();
    fp8_gemm(ctx, OpFamily::kMatmulBackwardWeight, "linear_backward_weight",
             {dw, dy_columns, x_columns, addend, false});
}

void linear_backward_weight_in_fp8(Context& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    Arena::Frame frame(scratch(ctx), "linear_backward_weight in fp8");
    const ConstFp8Rows dy_columns = quantized_columns(ctx, frame, dy);
    linear_backward_weight(ctx, dw, dy_columns, quantized_columns(ctx, frame, x), update);
}

int64_t fp8_weight_gradient_scratch_bytes(Context& ctx, int64_t rows, int64_t out, int64_t in) {
    return fp8_rows_bytes(out, rows) + fp8_rows_bytes(in, rows) +
           std::visit([&](auto& c) { return fp8_gemm_scratch_bytes(c, out, in, rows); }, ctx);
}

int64_t fp8_linear_scratch_bytes(Context& ctx, int64_t rows, int64_t out, int64_t in, bool x_quantized) {
    return (x_quantized ? 0 : fp8_rows_bytes(rows, in)) +
           std::visit([&](auto& c) { return fp8_gemm_scratch_bytes(c, rows, out, in); }, ctx);
}

bool has_fp8(Context& ctx) {
    return std::visit([](auto& c) { return has_fp8(c); }, ctx);
}

}  // namespace pastur
