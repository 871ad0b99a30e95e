#include "kernels/cuda/attention/tensor_maps.cuh"

#include "kernels/cuda/attention/paths.h"

namespace pastur::attention {

bool wgmma_streaming::takes(CudaContext& ctx, const Call& call) {
    return call.bf16_vectors() && has_tensor_copies(ctx) &&
           visit_hopper_widths(call.sizes, [&]<int kContent, int kShared, int kValue>() {
               static_assert(kContent % 32 == 0 && kShared % 32 == 0 && kValue % 64 == 0);
           });
}

std::string wgmma_streaming::widths() {
    std::string list;
    any_hopper_widths([&]<int kContent, int kShared, int kValue>() {
        list += fmt::format("{}{}{}/{}", list.empty() ? "" : ", ", kContent,
                            kShared > 0 ? fmt::format("+{}", kShared) : "", kValue);
        return false;
    });
    return list;
}

CUtensorMap head_map(const HeadView<const bf16>& view, int width, const Sizes& sizes, int heads, int box_rows,
                     int box_columns) {
    return pastur::tensor_map(
        {view.data, width, sizes.tokens, view.token, heads, view.head, sizes.batch, view.batch}, box_rows,
        box_columns);
}

}  // namespace pastur::attention
