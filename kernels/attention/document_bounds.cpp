#include "kernels/attention/document_bounds.h"

#include "kernels/base/op_timer.h"

namespace pastur {

void check_documents(const char* op, const DocumentBounds& documents, int64_t batch, int64_t time) {
    if (documents.empty()) return;
    for (const ConstTensor& bounds : {documents.first_key, documents.query_end})
        PASTUR_CHECK(
            bounds.dtype() == DType::kI32 && bounds.contiguous() && bounds.shape() == (Shape{batch, time}),
            "{}: first_key {}, query_end {}, expected i32 [{}, {}] of both, or neither", op,
            describe(documents.first_key), describe(documents.query_end), batch, time);
}

void find_documents(Context& ctx, Tensor first_key, Tensor query_end, ConstTensor tokens, int32_t separator) {
    PASTUR_CHECK(first_key.rank() == 2, "find_documents: first_key {}, expected i32 [B, T]",
                 describe(first_key));
    check_documents("find_documents", {first_key, query_end}, first_key.size(0), first_key.size(1));
    PASTUR_CHECK(tokens.dtype() == DType::kI32 && tokens.contiguous() && tokens.numel() == first_key.numel(),
                 "find_documents: tokens {}, first_key {}", describe(tokens), describe(first_key));
    const OpScope scope(ctx, OpFamily::kEmbedding, 0, bytes_of(first_key, query_end, tokens));
    std::visit([&](auto& c) { find_documents(c, first_key, query_end, tokens, separator); }, ctx);
}

}  // namespace pastur
