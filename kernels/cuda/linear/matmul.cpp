#include "kernels/matmul.h"

#include <algorithm>
#include <array>
#include <vector>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"
#include "kernels/cuda/linear/matmul_plan.h"
#include "kernels/fp8.h"

namespace pastur {

namespace {

/// How many algorithms the heuristic is asked for: its first may be one that this device or driver refuses.
constexpr int kCandidates = 8;

cudaDataType_t cuda_type(DType dtype) {
    if (dtype == DType::kF8E4M3) return CUDA_R_8F_E4M3;
    PASTUR_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "matrix products of {}", name_of(dtype));
    return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/// Row-major [rows, width] is column-major [width, rows], its row stride being the leading dimension.
MatmulOperand operand(const ConstTensor& matrix) {
    const auto address = reinterpret_cast<uintptr_t>(matrix.bytes());
    const uintptr_t divisor = address ? address & (~address + 1) : 256;
    // The stride of a single row says nothing, and may be less than a leading dimension must be.
    const int64_t leading = matrix.size(0) > 1 ? matrix.stride(0) : matrix.size(1);
    return {matrix.dtype(), leading, static_cast<int>(std::min<uintptr_t>(divisor, 256))};
}

std::string describe(const MatmulKey& key) {
    return fmt::format("{}[{}, {}] = {}{}[.., ld {}] {}{}[.., ld {}]{}, k {}, alignments {} {} {} {}",
                       name_of(key.d.dtype), key.m, key.n, name_of(key.a.dtype), key.transpose_a ? "^T" : "",
                       key.a.leading, name_of(key.b.dtype), key.transpose_b ? "^T" : "", key.b.leading,
                       key.add_c ? " + C" : "", key.k, key.a.alignment, key.b.alignment, key.c.alignment,
                       key.d.alignment);
}

void set_operation(cublasLtMatmulDesc_t operation, cublasLtMatmulDescAttributes_t attribute, bool transpose) {
    const cublasOperation_t value = transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
    CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value));
}

void set_layout(cublasLtMatrixLayout_t layout, const MatmulOperand& operand, int64_t rows, int64_t columns) {
    CUBLAS_CHECK(cublasLtMatrixLayoutInit(layout, cuda_type(operand.dtype), static_cast<uint64_t>(rows),
                                          static_cast<uint64_t>(columns), operand.leading));
}

/// One fp32 scale for every row of op(A) and column of op(B).
void set_scales(cublasLtMatmulDesc_t operation, bool fast_sums) {
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(fast_sums));
    for (const auto mode : {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE})
        set(mode, static_cast<int32_t>(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
}

/// The heuristic wants to see them too.
void point_at_scales(MatmulPlan& plan, const MatmulCall& call) {
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const float* scales) {
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(&plan.operation, attribute, &scales, sizeof scales));
    };
    set(CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, call.a_scales);
    set(CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, call.b_scales);
}

template <typename Value>
void set_preference(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
                    Value value) {
    CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

/// What an algorithm may use. A product split along k must add its parts in a fixed order: through the
/// workspace in fp32 by a separate step. INPLACE lets blocks add as they finish, and partial sums in bf16
/// would round twice.
cublasLtMatmulPreferenceOpaque_t preferences(const MatmulKey& key, int64_t workspace_bytes) {
    cublasLtMatmulPreferenceOpaque_t preference;
    CUBLAS_CHECK(cublasLtMatmulPreferenceInit(&preference));
    set_preference(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                   static_cast<uint64_t>(workspace_bytes));
    set_preference(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                   static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    const auto align = [&](cublasLtMatmulPreferenceAttributes_t attribute, const MatmulOperand& operand) {
        set_preference(&preference, attribute, static_cast<uint32_t>(operand.alignment));
    };
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.a);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.b);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c);
    align(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.d);
    return preference;
}

/// The plan with the heuristic's first algorithm; `candidates` receives all that the device takes.
MatmulPlan make_plan(CudaHandles& handles, const MatmulKey& key, const MatmulCall& call,
                     std::vector<MatmulAlgorithm>& candidates) {
    MatmulPlan plan{};
    // COMPUTE_32F multiplies f32 in fp32: TF32 would have to be asked for.
    CUBLAS_CHECK(cublasLtMatmulDescInit(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set_operation(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_a);
    set_operation(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_b);
    if (call.a_scales) {
        set_scales(&plan.operation, key.fast_sums);
        point_at_scales(plan, call);
    }
    set_layout(&plan.a, key.a, key.transpose_a ? key.k : key.m, key.transpose_a ? key.m : key.k);
    set_layout(&plan.b, key.b, key.transpose_b ? key.n : key.k, key.transpose_b ? key.k : key.n);
    set_layout(&plan.c, key.c, key.m, key.n);
    set_layout(&plan.d, key.d, key.m, key.n);

    cublasLtMatmulPreferenceOpaque_t preference = preferences(key, handles.blas_workspace.bytes());
    std::array<cublasLtMatmulHeuristicResult_t, kCandidates> results{};
    int found = 0;
    const cublasStatus_t status =
        cublasLtMatmulAlgoGetHeuristic(handles.blas, &plan.operation, &plan.a, &plan.b, &plan.c, &plan.d,
                                       &preference, kCandidates, results.data(), &found);
    for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < found; ++i) {
        const auto& result = results[static_cast<size_t>(i)];
        if (result.state == CUBLAS_STATUS_SUCCESS) candidates.push_back({result.algo, result.workspaceSize});
    }
    if (candidates.empty())
        fail(ExitCode::kOther, "cuBLASLt has no algorithm for {}: {}", describe(key),
             cublasLtGetStatusString(status));
    plan.algorithm = candidates.front();
    return plan;
}

/// Where trying costs nothing against a training run, the heuristic's order is not taken on trust.
bool worth_a_search(const MatmulKey& key) {
    return key.a.dtype != DType::kF32 && key.m * key.n * key.k >= int64_t{1} << 30;
}

MatmulPlan& plan_of(CudaContext& ctx, const MatmulKey& key, const MatmulCall& call) {
    auto& plans = ctx.handles().matmul_plans->by_key;
    const auto known = plans.find(key);
    if (known != plans.end()) return known->second;
    std::vector<MatmulAlgorithm> candidates;
    MatmulPlan& plan = plans.emplace(key, make_plan(ctx.handles(), key, call, candidates)).first->second;
    if (worth_a_search(key)) plan.algorithm = fastest_algorithm(ctx, plan, candidates, call);
    return plan;
}

/// The scales of e4m3 operands.
struct Scales {
    const float *a = nullptr, *b = nullptr;
    bool fast_sums = false;
};

/// d = op(a) op(b) (+ c), where row-major tensors stand for their column-major transposes: m runs along the
/// rows of memory of d, n over them. c empty: nothing is added; c may be d.
void multiply(CudaContext& ctx, const Tensor& d, const ConstTensor& a, bool transpose_a, const ConstTensor& b,
              bool transpose_b, int64_t k, const ConstTensor& c, const Scales& scales = {}) {
    CudaHandles& handles = ctx.handles();
    const ConstTensor addend = c.empty() ? ConstTensor(d) : c;
    const MatmulKey key{transpose_a, transpose_b, !c.empty(), scales.fast_sums, d.size(1), d.size(0),
                        k,           operand(a),  operand(b), operand(addend),  operand(d)};
    const int64_t span = (d.size(0) - 1) * d.stride(0) + d.size(1);
    const MatmulCall call{a.bytes(), b.bytes(), addend.bytes(), d.bytes(), span * size_of(d.dtype()),
                          key.add_c, scales.a,  scales.b};
    CUDA_CHECK(cudaSetDevice(handles.device));
    MatmulPlan& plan = plan_of(ctx, key, call);
    CUBLAS_CHECK(run_matmul(handles, plan, plan.algorithm, call));
}

}  // namespace

cublasStatus_t run_matmul(CudaHandles& handles, MatmulPlan& plan, const MatmulAlgorithm& algorithm,
                          const MatmulCall& call) {
    const float alpha = 1, beta = call.add_c ? 1 : 0;
    if (call.a_scales) point_at_scales(plan, call);
    return cublasLtMatmul(handles.blas, &plan.operation, &alpha, call.a, &plan.a, call.b, &plan.b, &beta,
                          call.c, &plan.c, call.d, &plan.d, &algorithm.algorithm,
                          handles.blas_workspace.data(), algorithm.workspace_bytes, handles.stream);
}

// y [N, O] = x w^T is, read by columns, y^T [O, N] = w x^T; memory of w is w^T to cuBLASLt, that of x is x^T.
void linear_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual) {
    multiply(ctx, y, w, true, x, false, x.size(1), residual);
}

// dx [N, I] = dy w: dx^T [I, N] = w^T dy^T.
void linear_backward_input(CudaContext& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update) {
    multiply(ctx, dx, w, false, dy, false, dy.size(1),
             update == Update::kAccumulate ? ConstTensor(dx) : ConstTensor());
}

// dw [O, I] = dy^T x: dw^T [I, O] = x^T dy.
void linear_backward_weight(CudaContext& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    multiply(ctx, dw, x, false, dy, true, x.size(0),
             update == Update::kAccumulate ? ConstTensor(dw) : ConstTensor());
}

// As forward of the rounded numbers.
void multiply(CudaContext& ctx, const Fp8Product& p) {
    multiply(ctx, p.y, p.w.values, true, p.x.values, false, p.x.width(), p.addend,
             {p.w.scales.data<float>(), p.x.scales.data<float>(), p.fast_sums});
}

// cuBLASLt scales by rows and columns (OUTER_VEC_32F) on Hopper alone: later GPUs have other scales.
bool has_fp8(CudaContext& ctx) {
    return ctx.handles().properties.major == 9;
}

}  // namespace pastur
