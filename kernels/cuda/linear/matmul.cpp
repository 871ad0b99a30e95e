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

/// Number of algorithms requested from the heuristic. The device or driver may refuse the first one.
constexpr int kCandidates = 8;

cudaDataType_t cuda_type(DType dtype) {
    if (dtype == DType::kF8E4M3) return CUDA_R_8F_E4M3;
    PASTUR_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, "GEMM: expected f32, bf16 or f8e4m3, got {}",
                 name_of(dtype));
    return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

/// A row-major [rows, width] matrix is a column-major [width, rows] one whose leading dimension is the row
/// stride.
MatmulOperand operand(const ConstTensor& matrix) {
    const auto address = reinterpret_cast<uintptr_t>(matrix.bytes());
    const uintptr_t divisor = address ? address & (~address + 1) : 256;
    // The stride of a single row has no meaning and may be smaller than cuBLASLt allows.
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
void set_scales(cublasLtMatmulDesc_t operation, bool fast_accumulation) {
    const auto set = [&](cublasLtMatmulDescAttributes_t attribute, auto value) {
        CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(operation, attribute, &value, sizeof value));
    };
    set(CUBLASLT_MATMUL_DESC_FAST_ACCUM, static_cast<int8_t>(fast_accumulation));
    for (const auto mode : {CUBLASLT_MATMUL_DESC_A_SCALE_MODE, CUBLASLT_MATMUL_DESC_B_SCALE_MODE})
        set(mode, static_cast<int32_t>(CUBLASLT_MATMUL_MATRIX_SCALE_OUTER_VEC_32F));
}

/// Sets the addresses of the scales. The heuristic requires them as well as the GEMM itself.
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

/// What an algorithm may use. A GEMM that is split along k must add its partial sums in a fixed order, so
/// only the scheme that stores them in the workspace in fp32 and adds them in a separate step is allowed:
/// INPLACE adds in the order in which blocks finish, and partial sums in bf16 would round twice.
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

/// The plan with the heuristic's first algorithm. `candidates` receives all algorithms that the device
/// supports.
MatmulPlan make_plan(CudaHandles& handles, const MatmulKey& key, const MatmulCall& call,
                     std::vector<MatmulAlgorithm>& candidates) {
    MatmulPlan plan{};
    // COMPUTE_32F multiplies f32 operands in fp32; TF32 is a compute type of its own.
    CUBLAS_CHECK(cublasLtMatmulDescInit(&plan.operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set_operation(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSA, key.transpose_a);
    set_operation(&plan.operation, CUBLASLT_MATMUL_DESC_TRANSB, key.transpose_b);
    if (call.a_scales) {
        set_scales(&plan.operation, key.fast_accumulation);
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
        fail(ExitCode::kOther, "cuBLASLt has no algorithm for the GEMM {}: {}", describe(key),
             cublasLtGetStatusString(status));
    plan.algorithm = candidates.front();
    return plan;
}

/// Whether to time the candidates instead of trusting the heuristic's order: for GEMMs so large that the
/// search takes negligible time against a training run.
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

/// d = op(a) op(b) (+ c) in cuBLASLt's column-major terms, where each row-major tensor stands for its
/// transpose.
struct Gemm {
    Tensor d;
    ConstTensor a;
    bool transpose_a;
    ConstTensor b;
    bool transpose_b;
    int64_t k;
    ConstTensor c;                                         ///< empty: nothing is added; may be d
    const float *a_scales = nullptr, *b_scales = nullptr;  ///< f32 [m] and [n], of e4m3 operands
    bool fast_accumulation = false;                        ///< of e4m3 operands
};

void run(CudaContext& ctx, const Gemm& p) {
    CudaHandles& handles = ctx.handles();
    const ConstTensor addend = p.c.empty() ? ConstTensor(p.d) : p.c;
    const MatmulKey key{.transpose_a = p.transpose_a,
                        .transpose_b = p.transpose_b,
                        .add_c = !p.c.empty(),
                        .fast_accumulation = p.fast_accumulation,
                        .m = p.d.size(1),
                        .n = p.d.size(0),
                        .k = p.k,
                        .a = operand(p.a),
                        .b = operand(p.b),
                        .c = operand(addend),
                        .d = operand(p.d)};
    const int64_t span = (p.d.size(0) - 1) * p.d.stride(0) + p.d.size(1);
    const MatmulCall call{.a = p.a.bytes(),
                          .b = p.b.bytes(),
                          .c = addend.bytes(),
                          .d = p.d.bytes(),
                          .d_bytes = span * size_of(p.d.dtype()),
                          .add_c = key.add_c,
                          .a_scales = p.a_scales,
                          .b_scales = p.b_scales};
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

// y [N, O] = x w^T; in column-major terms y^T [O, N] = w x^T, where the memory of w is w^T and that of x is
// x^T.
void linear_forward(CudaContext& ctx, Tensor y, ConstTensor x, ConstTensor w, ConstTensor residual) {
    run(ctx,
        {.d = y, .a = w, .transpose_a = true, .b = x, .transpose_b = false, .k = x.size(1), .c = residual});
}

// dx [N, I] = dy w; in column-major terms dx^T [I, N] = w^T dy^T.
void linear_backward_input(CudaContext& ctx, Tensor dx, ConstTensor dy, ConstTensor w, Update update) {
    const ConstTensor addend = update == Update::kAccumulate ? ConstTensor(dx) : ConstTensor();
    run(ctx,
        {.d = dx, .a = w, .transpose_a = false, .b = dy, .transpose_b = false, .k = dy.size(1), .c = addend});
}

// dw [O, I] = dy^T x; in column-major terms dw^T [I, O] = x^T dy.
void linear_backward_weight(CudaContext& ctx, Tensor dw, ConstTensor dy, ConstTensor x, Update update) {
    const ConstTensor addend = update == Update::kAccumulate ? ConstTensor(dw) : ConstTensor();
    run(ctx,
        {.d = dw, .a = x, .transpose_a = false, .b = dy, .transpose_b = true, .k = x.size(0), .c = addend});
}

// As linear_forward, of the quantised operands.
void fp8_gemm(CudaContext& ctx, const Fp8Gemm& p) {
    run(ctx, {.d = p.y,
              .a = p.w.values,
              .transpose_a = true,
              .b = p.x.values,
              .transpose_b = false,
              .k = p.x.width(),
              .c = p.addend,
              .a_scales = p.w.scales.data<float>(),
              .b_scales = p.x.scales.data<float>(),
              .fast_accumulation = p.fast_accumulation});
}

// cuBLASLt supports scales of rows and columns (OUTER_VEC_32F) on Hopper only; later GPUs have block scales.
bool has_fp8(CudaContext& ctx) {
    return ctx.handles().properties.major == 9;
}

}  // namespace pastur
