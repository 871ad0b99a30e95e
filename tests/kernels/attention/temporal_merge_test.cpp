#include "kernels/attention/temporal_merge.h"

#include "tests/kernels/attention/attention_shape.h"
#include "tests/ref/temporal_merge.h"
#include "tests/support/gradcheck.h"
#include "tests/support/host_tensors.h"

namespace pastur::test {
namespace {

struct MergeShape {
    int64_t batch, time, stride, width, code;
    int64_t before = 0, after = 0;        ///< every matrix is a slice of rows with so many more columns
    std::vector<int64_t> documents = {};  ///< lengths (TestDocuments)
    std::string name() const {
        return fmt::format("B{}_T{}_s{}_r{}_h{}{}{}{}", batch, time, stride, width, code,
                           before + after ? fmt::format("_in{}", before + width + after) : "",
                           documents.empty() ? "" : "_documents", fmt::join(documents, "and"));
    }
    Layout rows(int64_t count, int64_t columns_) const { return columns({count, columns_}, before, after); }
};

const std::vector<MergeShape> kShapes = {
    {1, 1, 1, 1, 1},
    {2, 5, 1, 3, 2},
    {1, 7, 2, 8, 2},
    {3, 6, 2, 5, 1},
    {2, 9, 3, 33, 8},
    {1, 5, 7, 16, 4},
    {2, 64, 64, 24, 6},
    {1, 130, 100, 40, 10},
    {2, 17, 4, 384, 96},
    {1, 10, 3, 520, 130},
    {1, 6, 2, 1029, 257},
    {1, 4, 2, 2056, 8},
    {4, 7, 3, 7, 1, 3, 5},
    {2, 12, 5, 64, 16, 0, 32},
    {3, 10, 2, 96, 24, 32, 8},
    {300, 3, 2, 8, 8},
    {2, 9, 3, 33, 8, 0, 0, {2, 5}},
    {1, 7, 2, 8, 2, 0, 0, {1}},
    {2, 64, 64, 24, 6, 0, 0, {20, 1, 100}},
    {1, 10, 4, 520, 130, 0, 0, {4, 3}},
};

class TemporalMergeOp : public OpTest<MergeShape> {
  protected:
    const TestDocuments documents_{shape().documents, shape().batch, shape().time};
    const ref::MergeSizes n_{shape().batch, shape().time, shape().stride,
                             shape().width, shape().code, documents_.first_key};
    const std::vector<double> c_ = normal(n_.tokens() * n_.width);
    const std::vector<double> latent_code_ = normal(n_.tokens() * n_.code, code_stddev());
    const std::vector<double> chunk_code_ = normal(n_.chunks() * n_.code, code_stddev());
    const std::vector<double> latent_bias_ = random_.normal(n_.code, DType::kF32, 0.3 * code_stddev());
    const std::vector<double> chunk_bias_ = random_.normal(n_.code, DType::kF32, 0.3 * code_stddev());
    const std::vector<double> dout_ = normal(n_.tokens() * n_.width);
    const std::vector<double> before_ =
        random_.normal(n_.code, DType::kF32);  ///< of bias gradients before +=
    const std::vector<double> gates_ =
        ref::merge_gates(latent_code_, chunk_code_, latent_bias_, chunk_bias_, n_);
    const Layout latents_ = shape().rows(n_.tokens(), n_.width), codes_ = shape().rows(n_.tokens(), n_.code),
                 chunk_codes_ = shape().rows(n_.chunks(), n_.code);

    /// Keeps z about 1, whatever the width.
    double code_stddev() const { return std::pow(static_cast<double>(shape().code), -0.25); }

    struct Inputs {
        DeviceTensor c, latent_code, chunk_code, latent_bias, chunk_bias;
        ref::MergeSizes n;
        DeviceDocuments documents;
        operator TemporalMerge() const {  // NOLINT
            return {c,          latent_code, chunk_code, latent_bias,
                    chunk_bias, n.time,      n.stride,   DocumentBounds(documents).first_key};
        }
    };
    Inputs inputs() const {
        return Inputs{input(c_, latents_),
                      input(latent_code_, codes_),
                      input(chunk_code_, chunk_codes_),
                      input(latent_bias_, {n_.code}, DType::kF32),
                      input(chunk_bias_, {n_.code}, DType::kF32),
                      n_,
                      DeviceDocuments(ctx(), documents_, 0, n_.batch, n_.time)};
    }
    struct Grads {
        DeviceTensor dlatent_code, dchunk_code, dlatent_bias, dchunk_bias;
        TemporalMergeGrads with(Tensor dc, Update update) const {
            return {dc, dlatent_code, dchunk_code, dlatent_bias, dchunk_bias, update};
        }
    };
    Grads grads() const {
        return Grads{output(codes_), output(chunk_codes_), in_out(before_, {n_.code}, DType::kF32),
                     in_out(before_, {n_.code}, DType::kF32)};
    }
    void backward(const TemporalMergeGrads& to, ConstTensor dout) const {
        const Inputs in = inputs();
        std::vector<double> rounded_gates(gates_);
        for (double& gate : rounded_gates) gate = rounded(gate, DType::kF32);
        const auto gate = input(rounded_gates, {n_.tokens()}, DType::kF32);
        reserve(temporal_merge_backward_scratch_bytes(ctx(), in));
        temporal_merge_backward(ctx(), to, dout, gate, in);
    }
    /// Arguments: c, latent_code, chunk_code, latent_bias, chunk_bias. The gates of c's derivative are
    /// constants, as codes are arguments of their own.
    auto loss(double before_scale) const {
        return [=, this](const ComplexArguments& a) {
            const auto gates = ref::merge_gates(a[1], a[2], a[3], a[4], n_);
            return ref::dot(dout_, ref::temporal_merge(a[0], gates, n_)) +
                   before_scale * (ref::dot(before_, a[3]) + ref::dot(before_, a[4]));
        };
    }
    Arguments arguments() const { return {c_, latent_code_, chunk_code_, latent_bias_, chunk_bias_}; }
};

TEST_P(TemporalMergeOp, ForwardMatchesReference) {
    const Inputs in = inputs();
    const auto out = output(latents_), gate = output({n_.tokens()}, DType::kF32);
    reserve(0);
    temporal_merge_forward(ctx(), out, gate, in);
    EXPECT_TRUE(close_to(gate, gates_));
    EXPECT_TRUE(close_to(out, ref::temporal_merge(c_, gates_, n_)));
}

TEST_P(TemporalMergeOp, BackwardIsTheGradient) {
    for (const Update update : {Update::kAssign, Update::kAccumulate}) {
        const auto dc = output(latents_), dout = input(dout_, latents_);
        const Grads got = grads();
        backward(got.with(dc, update), dout);
        const auto want = loss(update == Update::kAccumulate ? 1 : 0);
        EXPECT_TRUE(is_gradient(dc, want, arguments(), 0));
        EXPECT_TRUE(is_gradient(got.dlatent_code, want, arguments(), 1));
        EXPECT_TRUE(is_gradient(got.dchunk_code, want, arguments(), 2));
        EXPECT_TRUE(is_gradient(got.dlatent_bias, want, arguments(), 3));
        EXPECT_TRUE(is_gradient(got.dchunk_bias, want, arguments(), 4));
    }
}

TEST_P(TemporalMergeOp, BackwardInPlaceGivesTheSameBits) {
    const auto dc = output(latents_), dout = input(dout_, latents_), in_place = in_out(dout_, latents_);
    const Grads first = grads(), second = grads();
    backward(first.with(dc, Update::kAssign), dout);
    backward(second.with(in_place, Update::kAssign), in_place);
    EXPECT_TRUE(same_bits(dc, in_place));
    EXPECT_TRUE(same_bits(first.dlatent_code, second.dlatent_code));
    EXPECT_TRUE(same_bits(first.dchunk_code, second.dchunk_code));
    EXPECT_TRUE(same_bits(first.dlatent_bias, second.dlatent_bias));
    EXPECT_TRUE(same_bits(first.dchunk_bias, second.dchunk_bias));
}

TEST_P(TemporalMergeOp, ANaNStaysInItsChunk) {
    const int64_t token = n_.time / 2;
    std::vector<double> damaged(c_);
    for (double nan : kinds_of_nan()) {
        ref::at(damaged, token * n_.width) = nan;
        const Inputs in = inputs();
        const auto c = input(damaged, latents_);
        TemporalMerge merge = in;
        merge.c = c;
        const auto out = output(latents_), gate = output({n_.tokens()}, DType::kF32);
        temporal_merge_forward(ctx(), out, gate, merge);
        const std::vector<double> values = out.values();
        for (int64_t t = 0; t < n_.time; ++t)
            ASSERT_EQ(std::isnan(ref::at(values, t * n_.width)),
                      t >= token && t / n_.stride == token / n_.stride &&
                          (n_.first_key.empty() || ref::at(n_.first_key, t) <= token))
                << t;
    }
}

TEST_P(TemporalMergeOp, PositionsAreSinusoidal) {
    const auto positions = output({n_.chunks(), n_.width});
    chunk_positions(ctx(), positions);
    EXPECT_TRUE(close_to(positions, ref::chunk_positions(n_.chunks(), n_.width)));
}

INSTANTIATE_TEST_SUITE_P(Ops, TemporalMergeOp, every_target(kShapes), case_name<MergeShape>);

TEST(TemporalMergeFront, RejectsWhatDoesNotFit) {
    Context& ctx = context(Device::kCpu);
    HostTensors tensor;
    const Tensor c = tensor({6, 8}), gate = tensor({6}), bias = tensor({2});
    const TemporalMerge fits{c, tensor({6, 2}), tensor({2, 2}), bias, bias, 3, 2};
    EXPECT_NO_THROW(temporal_merge_forward(ctx, c, gate, fits));
    const auto rejects = [&](auto change) {
        TemporalMerge wrong = fits;
        change(wrong);
        EXPECT_THROW(temporal_merge_forward(ctx, c, gate, wrong), Error);
    };
    rejects([&](TemporalMerge& in) { in.c = tensor({6, 8}, DType::kBF16); });
    rejects([&](TemporalMerge& in) { in.latent_code = tensor({5, 2}); });
    rejects([&](TemporalMerge& in) { in.chunk_code = tensor({3, 2}); });
    rejects([&](TemporalMerge& in) { in.chunk_code = tensor({2, 3}); });
    rejects([&](TemporalMerge& in) { in.latent_bias = tensor({3}); });
    rejects([&](TemporalMerge& in) { in.chunk_bias = tensor({2}, DType::kBF16); });
    rejects([&](TemporalMerge& in) { in.time = 4; });
    rejects([&](TemporalMerge& in) { in.stride = 0; });
    rejects([&](TemporalMerge& in) { in.first_key = tensor({6}, DType::kI32); });
    rejects([&](TemporalMerge& in) { in.first_key = tensor({2, 3}); });
    EXPECT_THROW(temporal_merge_forward(ctx, tensor({6, 7}), gate, fits), Error);
    EXPECT_THROW(temporal_merge_forward(ctx, c, tensor({5}), fits), Error);
    EXPECT_THROW(chunk_positions(ctx, tensor({6})), Error);
    const TemporalMergeGrads grads{c, tensor({6, 2}), tensor({2, 2}), bias, bias, Update::kAssign};
    reserve_scratch(ctx, temporal_merge_backward_scratch_bytes(ctx, fits));
    EXPECT_NO_THROW(temporal_merge_backward(ctx, grads, c, gate, fits));
    const auto expect_rejected = [&](auto TemporalMergeGrads::*argument, Tensor other) {
        TemporalMergeGrads wrong = grads;
        wrong.*argument = other;
        EXPECT_THROW(temporal_merge_backward(ctx, wrong, c, gate, fits), Error) << describe(other);
    };
    expect_rejected(&TemporalMergeGrads::dc, tensor({6, 7}));
    expect_rejected(&TemporalMergeGrads::dlatent_code, tensor({6, 3}));
    expect_rejected(&TemporalMergeGrads::dchunk_code, tensor({3, 2}));
    expect_rejected(&TemporalMergeGrads::dlatent_bias, tensor({3}));
    expect_rejected(&TemporalMergeGrads::dchunk_bias, tensor({3}));
    EXPECT_THROW(temporal_merge_backward(ctx, grads, tensor({6, 7}), gate, fits), Error);
}

}  // namespace
}  // namespace pastur::test
