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

int64_t Parameters::matrix_copy_bytes() const {
    return compute_dtype_ == master_dtype_ ? 0 : table_.matrix_elements() * size_of(compute_dtype_);
}

int64_t Parameters::vector_copy_bytes() const {
    return master_dtype_ == DType::kF32 ? 0 : vector_elements() * size_of(DType::kF32);
}

void Parameters::allocate(Context& ctx, bool with_gradients) {
    master_ = pastur::allocate(ctx, master_bytes());
    fill(ctx, flat_master(), 0.0f);  // the padding between groups stays zero
    if (compute_bytes() > 0) compute_ = pastur::allocate(ctx, compute_bytes());
    fp8_.allocate(ctx);
    if (with_gradients) {
        grad_ = pastur::allocate(ctx, grad_bytes());
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

Tensor Parameters::view(const Buffer& buffer, DType dtype, int64_t offset, const Shape& shape) const {
    PASTUR_CHECK(buffer.data() != nullptr, "parameters used before allocate()");
    return Tensor(buffer.data() + offset * size_of(dtype), dtype, shape);
}

Tensor Parameters::value(GroupId id) const {
    const ParamGroup& group = table_.group(id);
    const Tensor copies = group.shape.rank() == 1 ? flat_vectors() : flat_compute();
    if (copies.empty()) return view(master_, master_dtype_, group.offset, group.shape);
    const int64_t first = group.shape.rank() == 1 ? table_.matrix_elements() : 0;
    return copies.slice(0, group.offset - first, group.shape.numel()).reshape(group.shape);
}

Tensor Parameters::grad(GroupId id) const {
    const ParamGroup& group = table_.group(id);
    return view(grad_, DType::kF32, group.offset, group.shape);
}

Tensor Parameters::master(const Param& param) const {
    return param.at(view(master_, master_dtype_, param.offset, {param.stored()}).bytes(), master_dtype_);
}
Tensor Parameters::grad(const Param& param) const {
    return param.in(flat_grad().bytes());
}

void Parameters::read_master(Context& ctx, Tensor values, const Param& param) const {
    const Tensor stored = master(param);
    if (master_dtype_ == DType::kF32) return copy(ctx, values, stored);
    if (stored.contiguous()) return cast(ctx, values.flat(), stored.flat());
    const Shape columns = {stored.size(1)};  // cast() does not take padded rows
    for (int64_t row = 0; row < stored.size(0); ++row)
        cast(ctx, Tensor(values.slice(0, row, 1).bytes(), DType::kF32, columns),
             Tensor(stored.slice(0, row, 1).bytes(), master_dtype_, columns));
}

Tensor Parameters::flat_master() const {
    return view(master_, master_dtype_, 0, {table_.total_elements()});
}
Tensor Parameters::flat_grad() const {
    return view(grad_, DType::kF32, 0, {table_.total_elements()});
}

Tensor Parameters::flat_compute() const {
    if (matrix_copy_bytes() == 0) return {};
    return view(compute_, compute_dtype_, 0, {table_.matrix_elements()});
}

Tensor Parameters::flat_vectors() const {
    if (vector_copy_bytes() == 0) return {};
    PASTUR_CHECK(compute_.data() != nullptr, "parameters used before allocate()");
    return Tensor(compute_.data() + matrix_copy_bytes(), DType::kF32, {vector_elements()});
}

/// The initial numbers of a matrix do not depend on its padding. Numbers in bf16 are those in fp32, rounded
/// to nearest.
void Parameters::draw(Context& ctx, const Param& param, uint64_t seed) {
    const Tensor weight = master(param);
    const auto normals = [&](Tensor flat) {
        fill_normal(ctx, flat, 0.0f, kInitStddev, seed, stream_of(param.name));
    };
    if (weight.contiguous() && master_dtype_ == DType::kF32) return normals(weight.flat());
    const Buffer dense = pastur::allocate(ctx, weight.numel() * size_of(DType::kF32));
    const Tensor drawn(dense.data(), DType::kF32, param.shape);
    normals(drawn.flat());
    const Buffer narrow = pastur::allocate(ctx, weight.nbytes());
    const Tensor rounded(narrow.data(), master_dtype_, param.shape);
    cast(ctx, rounded, drawn);
    copy(ctx, weight, rounded);
    synchronize(ctx);  // before the buffers are freed
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
    const int64_t matrices = table_.matrix_elements();
    if (const Tensor copies = flat_compute(); !copies.empty())
        cast(ctx, copies, flat_master().slice(0, 0, matrices));
    if (const Tensor copies = flat_vectors(); !copies.empty())
        cast(ctx, copies, flat_master().slice(0, matrices, vector_elements()));
    refresh_fp8(ctx);
}

void Parameters::refresh_fp8(Context& ctx) {
    for (size_t number = 0; number < fp8_groups_.size(); ++number)
        fp8_.refresh(ctx, number, value(fp8_groups_[number]));
}

}  // namespace pastur
