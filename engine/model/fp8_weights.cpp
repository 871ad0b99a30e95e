#include "engine/model/fp8_weights.h"

#include <algorithm>

namespace pastur {

// fp8 saves time in proportion to N O I and quantisation costs time in proportion to N (O + I).
bool Fp8Weights::gradient_pays(const Shape& shape) const {
    return rules_ && std::min(shape[0], shape[1]) >= rules_->min_gradient_side;
}

Fp8Matrix Fp8Weights::plan(Planner& planner, const Shape& shape) const {
    const int64_t out = shape[0], in = shape[1];
    Fp8Matrix matrix;
    if (!fp8_takes(out, in)) return matrix;
    if (wide_enough(out)) matrix.rows = planner.keep_fp8(out, in);
    if (wide_enough(in)) matrix.columns = planner.keep_fp8(in, out);
    matrix.gradient = gradient_pays(shape);
    return matrix;
}

size_t Fp8Weights::add(const Shape& shape) {
    Planner measuring;  // until allocate() the copies have no memory, only sizes
    shapes_.push_back(shape);
    matrices_.push_back(plan(measuring, shape));
    return shapes_.size() - 1;
}

int64_t Fp8Weights::bytes() const {
    Planner measuring;
    for (const Shape& shape : shapes_) plan(measuring, shape);
    return measuring.bytes();
}

void Fp8Weights::allocate(Context& ctx) {
    if (bytes() == 0) return;
    buffer_ = pastur::allocate(ctx, bytes());
    Planner carving(buffer_, Planner());
    for (size_t i = 0; i < shapes_.size(); ++i) matrices_[i] = plan(carving, shapes_[i]);
}

void Fp8Weights::refresh(Context& ctx, size_t number, ConstTensor weights) {
    const Fp8Matrix& copies = matrices_[number];
    if (copies.forward()) quantize_rows(ctx, copies.rows, weights);
    if (copies.backward_input()) quantize_columns(ctx, copies.columns, weights);
}

std::string Fp8Weights::describe() const {
    if (!rules_) return "";
    int64_t taken = 0, odd = 0, gradients = 0;
    for (size_t i = 0; i < shapes_.size(); ++i) {
        const bool takes = fp8_takes(shapes_[i][0], shapes_[i][1]);
        for (const int64_t outputs : {shapes_[i][0], shapes_[i][1]})
            (takes ? taken : odd) += wide_enough(outputs) ? 1 : 0;
        gradients += takes && gradient_pays(shapes_[i]) ? 1 : 0;
    }
    std::string text = fmt::format(
        "fp8 (e4m3): {} of the layers' {} forward and input-gradient GEMMs (at least {} outputs) and {} of "
        "{} weight gradients (at least {} rows and columns)",
        taken, 2 * shapes_.size(), rules_->min_outputs, gradients, shapes_.size(), rules_->min_gradient_side);
    if (odd > 0)
        text += fmt::format(
            "; {} that are wide enough have a matrix with a side that is not a multiple of 16", odd);
    return text + "\n";
}

}  // namespace pastur
