#include "kernels/cuda/attention/tensor_maps.cuh"

namespace pastur {

bool attention_hopper_supports(CudaContext& ctx, const AttentionSizes& sizes) {
    return has_tensor_copies(ctx) && visit_hopper_widths(sizes, [&]<int kContent, int kShared, int kValue>() {
               static_assert(kContent % 32 == 0 && kShared % 32 == 0 && kValue % 64 == 0);
           });
}

std::string attention_hopper_widths() {
    std::string list;
    any_hopper_widths([&]<int kContent, int kShared, int kValue>() {
        list += fmt::format("{}{}{}/{}", list.empty() ? "" : ", ", kContent,
                            kShared > 0 ? fmt::format("+{}", kShared) : "", kValue);
        return false;
    });
    return list;
}

CUtensorMap tensor_map(const HeadView<const bf16>& view, int width, const AttentionSizes& sizes, int heads,
                       int box_rows, int box_columns) {
    return tensor_map({view.data, width, sizes.tokens, view.token, heads, view.head, sizes.batch, view.batch},
                      box_rows, box_columns);
}

}  // namespace pastur
