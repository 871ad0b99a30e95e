#pragma once
// Documents of packed sequences: which keys a query sees where documents are masked.
#include "kernels/base/context.h"

namespace pastur {

/// For every token of B sequences of T tokens, i32 [B, T] each, contiguous; or both empty: nothing is masked. Positions are
/// those of the sequence. Query i sees no key before first_key[i], and key n is seen by no query from query_end[n] on.
/// Both say the same: first_key does not decrease along T, first_key[i] <= i, and query_end[n] is the number of queries i
/// with first_key[i] <= n. Forward passes and gradients of queries read first_key, gradients of keys query_end.
struct DocumentBounds {
    ConstTensor first_key, query_end;
    bool empty() const { return first_key.empty() && query_end.empty(); }
};

/// Documents end with the token `separator` (EOS), which belongs to the document that it ends; what follows the last one
/// is a document as well. first_key[i] = the position after the last separator before token i, or 0; query_end[n] = the
/// position after the first separator from token n on, or T. Both are =, i32 [B, T]; tokens i32 of as many elements. All
/// are contiguous. Integers alone, so all backends give the same.
void find_documents(Context& ctx, Tensor first_key, Tensor query_end, ConstTensor tokens, int32_t separator);

/// Throws (kOther), with a message that begins with `op`, unless `documents` are empty or bounds of [batch, time] tokens.
void check_documents(const char* op, const DocumentBounds& documents, int64_t batch, int64_t time);

void find_documents(CpuContext& ctx, Tensor first_key, Tensor query_end, ConstTensor tokens,
                    int32_t separator);
#if defined(PASTUR_HAVE_CUDA)
void find_documents(CudaContext& ctx, Tensor first_key, Tensor query_end, ConstTensor tokens,
                    int32_t separator);
#endif

}  // namespace pastur
