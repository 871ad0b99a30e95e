// Bounds of documents from their separators, and what attention with them must not change.
#include "kernels/attention/document_bounds.h"

#include "tests/kernels/attention/attention_case.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct TokenShape {
    int64_t batch, time;
    int64_t vocab;  ///< 1: every token is the separator
    std::string name() const { return fmt::format("B{}_T{}_V{}", batch, time, vocab); }
};

class FindDocuments : public OpTest<TokenShape> {};

TEST_P(FindDocuments, MatchesTheDefinition) {
    const auto [batch, time, vocab] = shape();
    const std::vector<int32_t> ids = random_.ids(batch * time, vocab);
    const auto tokens = input(ids);
    const auto first_key = output({batch, time}, DType::kI32), query_end = output({batch, time}, DType::kI32);
    find_documents(ctx(), first_key, query_end, tokens, 0);
    std::vector<double> first, end;
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t t = 0; t < time; ++t) {
            int64_t begin = t, after = t;
            while (begin > 0 && ref::at(ids, b * time + begin - 1) != 0) --begin;
            while (after < time && ref::at(ids, b * time + after) != 0) ++after;
            first.push_back(static_cast<double>(begin));
            end.push_back(static_cast<double>(std::min(after + 1, time)));
        }
    EXPECT_EQ(first_key.values(), first);
    EXPECT_EQ(query_end.values(), end);
}

TEST_P(FindDocuments, TheEndIsTheNumberOfQueriesThatSeeTheKey) {
    const auto [batch, time, vocab] = shape();
    const auto tokens = input(random_.ids(batch * time, vocab));
    const auto first_key = output({batch, time}, DType::kI32), query_end = output({batch, time}, DType::kI32);
    find_documents(ctx(), first_key, query_end, tokens, 0);
    const std::vector<double> first = first_key.values(), end = query_end.values();
    for (int64_t b = 0; b < batch; ++b)
        for (int64_t n = 0; n < time; n += 1 + time / 50) {
            const auto row = first.begin() + b * time;
            EXPECT_EQ(ref::at(end, b * time + n),
                      static_cast<double>(std::count_if(
                          row, row + time, [n = n](double key) { return key <= static_cast<double>(n); })))
                << n;
        }
}

const std::vector<TokenShape> kTokenShapes = {{1, 1, 1},     {1, 1, 9},      {3, 5, 2},
                                              {2, 31, 1},    {7, 33, 6},     {2, 1023, 3},
                                              {1, 1024, 50}, {3, 1025, 900}, {2, 4100, 40}};
INSTANTIATE_TEST_SUITE_P(Ops, FindDocuments, every_backend(kTokenShapes), case_name<TokenShape>);

TEST(FindDocumentsFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor bounds = tensor({2, 6}, DType::kI32), tokens = tensor({12}, DType::kI32);
    EXPECT_NO_THROW(find_documents(ctx, bounds, bounds, tokens, 0));
    EXPECT_THROW(find_documents(ctx, bounds, tensor({2, 6}), tokens, 0), Error);
    EXPECT_THROW(find_documents(ctx, bounds, tensor({3, 4}, DType::kI32), tokens, 0), Error);
    EXPECT_THROW(find_documents(ctx, tokens, tokens, tokens, 0), Error);
    EXPECT_THROW(find_documents(ctx, bounds, {}, tokens, 0), Error);
    EXPECT_THROW(find_documents(ctx, bounds, bounds, tensor({11}, DType::kI32), 0), Error);
    EXPECT_THROW(find_documents(ctx, bounds, bounds, tensor({12}), 0), Error);
}

class DocumentMask : public CausalAttention {
  protected:
    /// out, lse and the gradients on the named path.
    std::vector<std::vector<double>> run(const AttentionInputs& in, bool is_forward) {
        if (is_forward) {
            const auto out = output(out_layout_), lse = output(lse_layout_, DType::kF32);
            causal_attention_forward(ctx(), out, lse, in);
            return {out.values(), lse.values()};
        }
        const Grads got = grads();
        backward(got, in);
        std::vector<std::vector<double>> all = {got.dq.values(), got.dk.values(), got.dv.values()};
        if (got.dk_shared) all.push_back(got.dk_shared->values());
        return all;
    }
    template <typename Test>
    void on_all_paths(const AttentionInputs& in, const Test& test) {
        on_forward_paths(in, [&](const AttentionInputs& path) { test(path, true); });
        on_backward_paths(in, [&](const AttentionInputs& path) { test(path, false); });
    }
};

TEST_P(DocumentMask, OfOneDocumentGivesTheBitsOfNone) {
    const Inputs masked = inputs();
    const DeviceDocuments one(ctx(), TestDocuments({n_.time}, n_.batch, n_.time), 0, n_.batch, n_.time);
    AttentionInputs in = masked;
    in.documents = one;
    on_all_paths(in, [&](const AttentionInputs& path, bool is_forward) {
        AttentionInputs plain = path;
        plain.documents = {};
        EXPECT_EQ(run(path, is_forward), run(plain, is_forward)) << (is_forward ? "forward" : "backward");
    });
}

TEST_P(DocumentMask, OtherDocumentsChangeNoBit) {
    // Changed keys and values of every second document leave the rows of the others as they are.
    const auto document_of = [&](int64_t token) {
        return std::count_if(documents_.first_key.begin() + token / n_.time * n_.time,
                             documents_.first_key.begin() + token + 1,
                             [t = 0](int32_t first) mutable { return first == t++; });
    };
    const auto changed = [&](std::vector<double> values) {
        const int64_t row = static_cast<int64_t>(values.size()) / tokens_;
        for (int64_t i = 0; i < static_cast<int64_t>(values.size()); ++i)
            if (document_of(i / row) % 2 == 0) ref::at(values, i) = 3;
        return values;
    };
    const auto k = input(changed(k_), shape().k()), v = input(changed(v_), shape().v());
    const Inputs all = inputs();
    on_forward_paths(all, [&](const AttentionInputs& in) {
        AttentionInputs other = in;
        other.k = k;
        other.v = v;
        const std::vector<double> before = run(in, true)[0], after = run(other, true)[0];
        const int64_t row = n_.heads * n_.value;
        int64_t kept = 0;
        for (int64_t i = 0; i < tokens_ * row; ++i) {
            if (document_of(i / row) % 2 == 0) continue;
            ASSERT_EQ(ref::at(before, i), ref::at(after, i)) << "element " << i;
            ++kept;
        }
        EXPECT_GT(kept, 0);
    });
}

std::vector<AttentionShape> masked_shapes() {
    std::vector<AttentionShape> shapes;
    std::copy_if(kAttentionShapes.begin(), kAttentionShapes.end(), std::back_inserter(shapes),
                 [](const AttentionShape& shape) { return !shape.documents.empty(); });
    return shapes;
}
INSTANTIATE_TEST_SUITE_P(Ops, DocumentMask, every_target(masked_shapes()), case_name<AttentionShape>);

TEST(DocumentMaskFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor out = tensor({2, 5, 4, 8}), lse = tensor({2, 4, 5}), bounds = tensor({2, 5}, DType::kI32);
    AttentionInputs in{tensor({2, 5, 4, 16}), tensor({2, 5, 2, 16}), {}, tensor({2, 5, 2, 8}), 1};
    const auto rejects = [&](const DocumentBounds& documents) {
        in.documents = documents;
        EXPECT_THROW(causal_attention_forward(ctx, out, lse, in), Error);
    };
    rejects({bounds, {}});
    rejects({{}, bounds});
    rejects({bounds, tensor({2, 5})});
    rejects({tensor({5, 2}, DType::kI32), bounds});
    rejects({tensor({10}, DType::kI32), tensor({10}, DType::kI32)});
    in.documents = {};
    EXPECT_NO_THROW(causal_attention_forward(ctx, out, lse, in));
}

}  // namespace
}  // namespace pastur::test
