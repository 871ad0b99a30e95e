#include "engine/model/parameters.h"

#include "kernels/fill.h"

namespace pastur {
namespace {

constexpr float kInitStddev = 0.02f;

/// FNV-1a: a stable 64-bit id of a name.
uint64_t stream_of(const std::string& name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    return hash;
}

}  // namespace

size_t Parameters::offer_to_fp8(GroupId id) {
    fp8_groups_.push_back(id);
    return fp8_.add(table_.group(id).shape);
}

int64_t Parameters::compute_bytes() const {
    return compute_dtype_ == DType::kF32 ? 0 : table_.matrix_elements() * size_of(compute_dtype_);
}

void Parameters::allocate(Context& ctx, bool with_gradients) {
    master_ = pastur::allocate(ctx, master_bytes());
    fill(ctx, flat_master(), 0.0f);  // the padding between groups stays zero
    if (compute_bytes() > 0) compute_ = pastur::allocate(ctx, compute_bytes());
    fp8_.allocate(ctx);
    if (with_gradients) {
        grad_ = pastur::allocate(ctx, master_bytes());
        fill(ctx, flat_grad(), 0.0f);
    }
}

void Parameters::share(const Parameters& owner) {
    const auto borrow = [](const Buffer& buffer) { return Buffer::borrow(buffer.data(), buffer.bytes()); };
    table_ = owner.table_;
    master_ = borrow(owner.master_);
    compute_ = borrow(owner.compute_);
    fp8_.share(owner.fp8_);
}

Tensor Parameters::view(const Buffer& buffer, int64_t offset, const Shape& shape) const {
    PASTUR_CHECK(buffer.data() != nullptr, "parameters used before allocate()");
    return Tensor(buffer.data() + offset * size_of(DType::kF32), DType::kF32, shape);
}

Tensor Parameters::value(GroupId id) const {
    const ParamGroup& group = table_.group(id);
    if (group.shape.rank() == 1 || compute_dtype_ == DType::kF32)
        return view(master_, group.offset, group.shape);
    return Tensor(compute_.data() + group.offset * size_of(compute_dtype_), compute_dtype_, group.shape);
}

Tensor Parameters::grad(GroupId id) const {
    const ParamGroup& group = table_.group(id);
    return view(grad_, group.offset, group.shape);
}

Tensor Parameters::master(const Param& param) const {
    return param.in(flat_master().bytes());
}
Tensor Parameters::grad(const Param& param) const {
    return param.in(flat_grad().bytes());
}

Tensor Parameters::flat_master() const {
    return view(master_, 0, {table_.total_elements()});
}
Tensor Parameters::flat_grad() const {
    return view(grad_, 0, {table_.total_elements()});
}

Tensor Parameters::flat_compute() const {
    if (compute_dtype_ == DType::kF32) return {};
    return Tensor(compute_.data(), compute_dtype_, {table_.matrix_elements()});
}

/// The initial numbers of a matrix do not depend on its padding.
void Parameters::draw(Context& ctx, const Param& param, uint64_t seed) {
    const Tensor weight = master(param);
    const auto normals = [&](Tensor flat) {
        fill_normal(ctx, flat, 0.0f, kInitStddev, seed, stream_of(param.name));
    };
    if (weight.contiguous()) return normals(weight.flat());
    const Buffer dense = pastur::allocate(ctx, weight.nbytes());
    const Tensor drawn(dense.data(), DType::kF32, param.shape);
    normals(drawn.flat());
    copy(ctx, weight, drawn);
    synchronize(ctx);  // before `dense` is freed
}

void Parameters::initialise(Context& ctx, uint64_t seed) {
    for (const Param& param : table_.params()) {
        if (param.is_matrix())
            draw(ctx, param, seed);
        else
            fill(ctx, master(param), param.initial);
    }
    refresh_compute(ctx);
}

void Parameters::refresh_compute(Context& ctx) {
    if (compute_dtype_ != DType::kF32)
        cast(ctx, flat_compute(), flat_master().slice(0, 0, table_.matrix_elements()));
    refresh_fp8(ctx);
}

void Parameters::refresh_fp8(Context& ctx) {
    for (size_t number = 0; number < fp8_groups_.size(); ++number)
        fp8_.refresh(ctx, number, value(fp8_groups_[number]));
}

}  // namespace pastur
