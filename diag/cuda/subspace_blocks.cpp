#include "diag/cuda/subspace_blocks.h"

#include <tuple>
#include <utility>

#include "diag/cuda/subspace_kernels.h"
#include "kernels/cuda/check.h"

namespace pastur {

SubspaceScratch::SubspaceScratch(Carver& carver, const BlockShape& shape, int64_t n) {
    for (double** block : {&x, &image, &other}) *block = carver.take<double>(shape.numbers());
    for (double*& block : inner) block = carver.take<double>(shape.items * shape.rows * n);
    forms = carver.take<double>(shape.items * shape.rows * shape.rows);
    values = carver.take<double>(shape.items * shape.rows);
    norms = carver.take<double>(shape.items * shape.rows);
    steps = carver.take<FilterStep>(kFilterSteps * shape.items);
}

template <typename T>
void CudaSubspaceBlocks::send(T* to, const std::vector<T>& from) const {
    // `from` is pageable, so it has been read when this returns.
    CUDA_CHECK(cudaMemcpyAsync(to, from.data(), from.size() * sizeof(T), cudaMemcpyHostToDevice, stream_));
}

std::vector<double> CudaSubspaceBlocks::fetch(const double* from, int64_t count) const {
    std::vector<double> to(static_cast<size_t>(count));
    CUDA_CHECK(cudaMemcpyAsync(to.data(), from, to.size() * sizeof(double), cudaMemcpyDeviceToHost, stream_));
    CUDA_CHECK(cudaStreamSynchronize(stream_));
    return to;
}

void CudaSubspaceBlocks::start(const std::vector<double>& numbers) {
    send(scratch_.other, numbers);
    repeat_block(stream_, scratch_.x, scratch_.other, shape());
}

void CudaSubspaceBlocks::orthonormalise() {
    orthonormalise_rows(stream_, scratch_.x, shape());
}

void CudaSubspaceBlocks::apply(double* to, double* from) const {
    const auto& [p, g] = forms_;
    if (!p.data) {
        products_.multiply(to, block(from), g, extent_);
        return;
    }
    Batch inner = products_.multiply(scratch_.inner[0], block(from), p.transpose(), extent_);
    if (g.data) inner = products_.multiply(scratch_.inner[1], inner, g, extent_);
    products_.multiply(to, inner, p, extent_);
}

std::vector<double> CudaSubspaceBlocks::project() {
    apply(scratch_.image, scratch_.x);
    products_.multiply(scratch_.forms, block(scratch_.x), block(scratch_.image).transpose(), extent_);
    return fetch(scratch_.forms, shape().items * shape().rows * shape().rows);
}

std::vector<double> CudaSubspaceBlocks::rotate(const std::vector<double>& rotations,
                                               const std::vector<double>& values) {
    send(scratch_.forms, rotations);
    send(scratch_.values, values);
    const Batch rotation{scratch_.forms, shape().rows, shape().rows};
    for (double** turned : {&scratch_.x, &scratch_.image}) {
        products_.multiply(scratch_.other, rotation, block(*turned), extent_);
        std::swap(scratch_.other, *turned);
    }
    residual_norms(stream_, scratch_.norms, scratch_.x, scratch_.image, scratch_.values, shape());
    return fetch(scratch_.norms, shape().items * shape().rows);
}

void CudaSubspaceBlocks::filter(const std::vector<FilterStep>& steps) {
    send(scratch_.steps, steps);
    combine_blocks(stream_, scratch_.image, scratch_.x, scratch_.x, scratch_.steps, shape());
    double *previous = scratch_.x, *current = scratch_.image, *next = scratch_.other;
    for (int64_t step = 1; step * shape().items < std::ssize(steps); ++step) {
        apply(next, current);
        combine_blocks(stream_, next, current, previous, scratch_.steps + step * shape().items, shape());
        std::tie(previous, current, next) = std::tuple(current, next, previous);
    }
    scratch_.x = current;
    scratch_.image = next;
    scratch_.other = previous;
}

std::vector<double> CudaSubspaceBlocks::read() {
    return fetch(scratch_.x, shape().numbers());
}

}  // namespace pastur
