#include "kernels/embedding.h"

#include "kernels/base/op_timer.h"

namespace pastur {
namespace {

void check(const char* op, const ConstTensor& rows, const ConstTensor& table, const ConstTensor& ids) {
    PASTUR_CHECK(table.rank() == 2 && rows.rank() == 2 && ids.rank() == 1 && rows.size(0) == ids.size(0) &&
                     rows.size(1) == table.size(1),
                 "{}: rows {}, table {}, ids {}", op, describe(rows), describe(table), describe(ids));
    PASTUR_CHECK(ids.dtype() == DType::kI32 && rows.contiguous() && table.contiguous() && ids.contiguous(),
                 "{}: rows {}, table {}, ids {}", op, describe(rows), describe(table), describe(ids));
}

}  // namespace

void embedding_forward(Context& ctx, Tensor out, ConstTensor table, ConstTensor ids) {
    check("embedding_forward", out, table, ids);
    PASTUR_CHECK(out.dtype() == table.dtype(), "embedding_forward: out {}, table {}", describe(out),
                 describe(table));
    const OpScope scope(ctx, OpFamily::kEmbedding, 0, 2 * bytes_of(out) + bytes_of(ids));
    std::visit([&](auto& c) { embedding_forward(c, out, table, ids); }, ctx);
}

void embedding_backward(Context& ctx, Tensor dtable, ConstTensor dout, ConstTensor ids, Update update) {
    check("embedding_backward", dout, dtable, ids);
    PASTUR_CHECK(dtable.dtype() == DType::kF32, "embedding_backward: dtable {}", describe(dtable));
    const OpScope scope(ctx, OpFamily::kEmbedding, 0,
                        bytes_of(dtable, dout, ids) + bytes_read_by(update, dtable));
    std::visit([&](auto& c) { embedding_backward(c, dtable, dout, ids, update); }, ctx);
}

int64_t embedding_backward_scratch_bytes(Context& ctx, int64_t tokens, int64_t vocab) {
    return std::visit([&](auto& c) { return embedding_backward_scratch_bytes(c, tokens, vocab); }, ctx);
}

}  // namespace pastur
