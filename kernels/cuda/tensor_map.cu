#include "kernels/cuda/tensor_map.h"

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/handles.h"

namespace pastur {
namespace {

using EncodeTiled = decltype(&cuTensorMapEncodeTiled);

/// The driver's function, looked up at run time, so the program does not link to the driver; null if it has
/// none.
EncodeTiled encode_tiled() {
    static const EncodeTiled function = [] {
        void* found = nullptr;
        cudaDriverEntryPointQueryResult result{};
        const cudaError_t error = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                                   cudaEnableDefault, &result);
        const bool good = error == cudaSuccess && result == cudaDriverEntryPointSuccess;
        return good ? reinterpret_cast<EncodeTiled>(found) : nullptr;
    }();
    return function;
}

}  // namespace

bool has_tensor_copies(CudaContext& ctx) {
    return ctx.handles().properties.major == 9 && encode_tiled() != nullptr;
}

CUtensorMap tensor_map(const MappedTensor& tensor, int box_rows, int box_columns) {
    CUtensorMap map;
    const auto size = [](int64_t x) { return static_cast<cuuint64_t>(x); };
    // The stride of a dimension of size 1 is replaced by a valid one, which is never used.
    const auto bytes = [](int64_t stride, int64_t indices) {
        const int64_t least = std::max<int64_t>(stride, 8);
        return static_cast<cuuint64_t>(indices > 1 ? least : (least + 7) / 8 * 8) * 2;
    };
    const cuuint64_t shape[] = {size(tensor.columns), size(tensor.rows), size(tensor.heads),
                                size(tensor.batches)};
    const cuuint64_t strides[] = {bytes(tensor.row_stride, tensor.rows),
                                  bytes(tensor.head_stride, tensor.heads),
                                  bytes(tensor.batch_stride, tensor.batches)};
    const cuuint32_t box[] = {static_cast<cuuint32_t>(box_columns), static_cast<cuuint32_t>(box_rows), 1, 1};
    const cuuint32_t steps[] = {1, 1, 1, 1};
    const CUresult result =
        encode_tiled()(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<bf16*>(tensor.data), shape,
                       strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                       box_columns == 64 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_64B,
                       CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS)
        fail(ExitCode::kOther,
             "cuTensorMapEncodeTiled: error {} for {} columns, strides {} {} {} bytes, box {} x {}",
             static_cast<int>(result), tensor.columns, strides[0], strides[1], strides[2], box_rows,
             box_columns);
    return map;
}

}  // namespace pastur
