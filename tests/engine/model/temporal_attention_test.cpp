// mtla against a decoder that holds one slot per chunk, and against mla-decoupled.
#include <cmath>
#include <map>

#include "engine/model/recipe.h"
#include "tests/support/model_harness.h"

namespace pastur::test {
namespace {

using Values = std::vector<double>;

double& at(Values& x, int64_t i) {
    return x[static_cast<size_t>(i)];
}
double at(const Values& x, int64_t i) {
    return x[static_cast<size_t>(i)];
}
Values part(const Values& x, int64_t begin, int64_t count) {
    return Values(x.begin() + begin, x.begin() + begin + count);
}
double dot(const Values& a, const Values& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

/// Generates token by token in double precision. A layer's cache has one slot for each chunk of `stride`
/// tokens.
class Decoder {
  public:
    Decoder(const Config& config, const NamedValues& weights) : config_(config), weights_(weights) {
        caches_.resize(static_cast<size_t>(config.model.layers));
    }

    /// The logits that follow this token.
    Values step(int32_t token) {
        const int64_t width = config_.model.d_model;
        Values x = part(w("model.embed_tokens.weight"), token * width, width);
        for (int64_t layer = 0; layer < config_.model.layers; ++layer) {
            const std::string prefix = "model.layers." + std::to_string(layer) + ".";
            add(x, attention(rms_norm(x, prefix + "input_layernorm.weight"), prefix + "self_attn.",
                             caches_[static_cast<size_t>(layer)]));
            add(x, mlp(rms_norm(x, prefix + "post_attention_layernorm.weight"), prefix + "mlp."));
        }
        ++position_;
        return times("lm_head.weight", rms_norm(x, "model.norm.weight"));
    }

    /// Slots in the cache of a layer.
    size_t slots() const { return caches_.front().size(); }

  private:
    struct Slot {
        Values latent, rotary_key;
    };
    using Cache = std::vector<Slot>;

    const Values& w(const std::string& name) const { return weights_.at(name); }
    static void add(Values& x, const Values& y) {
        for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
    }
    /// W x.
    Values times(const std::string& name, const Values& x) const {
        const Values& matrix = w(name);
        Values y;
        for (size_t row = 0; row < matrix.size(); row += x.size())
            y.push_back(dot(part(matrix, static_cast<int64_t>(row), static_cast<int64_t>(x.size())), x));
        return y;
    }
    Values rms_norm(const Values& x, const std::string& name) const {
        const double scale =
            1 / std::sqrt(dot(x, x) / static_cast<double>(x.size()) + config_.model.norm_eps);
        Values y;
        for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * scale * w(name)[i]);
        return y;
    }
    Values layer_norm(const Values& x, const std::string& name) const {
        const auto count = static_cast<double>(x.size());
        double mean = 0, variance = 0;
        for (const double number : x) mean += number / count;
        for (const double number : x) variance += (number - mean) * (number - mean) / count;
        Values y;
        for (size_t i = 0; i < x.size(); ++i)
            y.push_back((x[i] - mean) / std::sqrt(variance + 1e-5) * w(name + ".weight")[i] +
                        w(name + ".bias")[i]);
        return y;
    }
    /// Rotates pairs (i, i + half) to the decoder's position.
    Values rotate(Values x) const {
        const auto half = static_cast<int64_t>(x.size()) / 2;
        for (int64_t i = 0; i < half; ++i) {
            const double angle =
                static_cast<double>(position_) *
                std::pow(config_.model.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
            const double a = at(x, i), b = at(x, i + half);
            at(x, i) = a * std::cos(angle) - b * std::sin(angle);
            at(x, i + half) = b * std::cos(angle) + a * std::sin(angle);
        }
        return x;
    }
    Values mlp(const Values& x, const std::string& prefix) const {
        Values gate = times(prefix + "gate_proj.weight", x);
        const Values up = times(prefix + "up_proj.weight", x);
        for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1 + std::exp(-gate[i]));
        return times(prefix + "down_proj.weight", gate);
    }
    double gate(const Values& latent, int64_t chunk, const std::string& prefix) const {
        Values positions;
        for (size_t i = 0; i < latent.size(); ++i) {
            const double exponent = static_cast<double>(i - i % 2) / static_cast<double>(latent.size());
            const double angle = static_cast<double>(chunk) * std::pow(10000.0, -exponent);
            positions.push_back(i % 2 ? std::cos(angle) : std::sin(angle));
        }
        Values a = times(prefix + "merge_latent_proj.weight", latent);
        Values b = times(prefix + "merge_chunk_proj.weight", positions);
        add(a, w(prefix + "merge_latent_proj.bias"));
        add(b, w(prefix + "merge_chunk_proj.bias"));
        return 1 / (1 + std::exp(-dot(a, b)));
    }
    Values attention(const Values& x, const std::string& prefix, Cache& cache) const {
        const AttentionConfig& a = config_.attention;
        const Values q = times(prefix + "q_proj.weight", x);
        const Values down = times(prefix + "kv_a_proj_with_mqa.weight", x);
        const Values latent = layer_norm(part(down, 0, a.kv_rank), prefix + "kv_a_layernorm");
        const int64_t chunk = position_ / a.stride;
        if (static_cast<size_t>(chunk) == cache.size())
            cache.push_back({Values(static_cast<size_t>(a.kv_rank)), {}});
        const double factor = gate(latent, chunk, prefix);
        for (int64_t i = 0; i < a.kv_rank; ++i) at(cache.back().latent, i) += factor * at(latent, i);
        cache.back().rotary_key = rotate(part(down, a.kv_rank, a.rope_dim));

        Values out;
        const int64_t head = a.nope_dim + a.rope_dim, kv_head = a.nope_dim + a.v_dim;
        for (int64_t h = 0; h < config_.model.heads; ++h) {
            const Values content = part(q, h * head, a.nope_dim);
            const Values rotary = rotate(part(q, h * head + a.nope_dim, a.rope_dim));
            std::vector<Values> values;
            Values scores;
            for (const Slot& slot : cache) {
                const Values kv = part(times(prefix + "kv_b_proj.weight", slot.latent), h * kv_head, kv_head);
                const double score = dot(content, part(kv, 0, a.nope_dim)) + dot(rotary, slot.rotary_key);
                scores.push_back(std::exp(score / std::sqrt(static_cast<double>(head))));
                values.push_back(part(kv, a.nope_dim, a.v_dim));
            }
            double sum = 0;
            for (const double score : scores) sum += score;
            for (int64_t i = 0; i < a.v_dim; ++i) {
                double mean = 0;
                for (size_t s = 0; s < scores.size(); ++s) mean += scores[s] / sum * at(values[s], i);
                out.push_back(mean);
            }
        }
        return times(prefix + "o_proj.weight", out);
    }

    const Config& config_;
    const NamedValues& weights_;
    std::vector<Cache> caches_;
    int64_t position_ = 0;
};

struct StrideCase {
    int64_t stride;
    std::string name() const { return fmt::format("s{}", stride); }
};

class TemporalAttention : public OpTest<StrideCase> {
  protected:
    static constexpr BatchShape kShape{1, 13};
    Config config(const std::string& attention) const {
        return parse_config(
            "[model]\npreset = \"nano\"\nvocab = 19\nd_model = 24\nlayers = 2\nheads = 3\n"
            "ffn = 10\n[attention]\nkv_rank = 13\nnope_dim = 5\nrope_dim = 6\nv_dim = 7\n" +
                attention + "\n[data]\nseq_len = 13\n[train]\nglobal_batch = 1\n",
            "recipe", {});
    }
    Config temporal() const { return config(fmt::format("variant = \"mtla\"\nstride = {}", shape().stride)); }
};

/// Largest difference over the largest magnitude.
double distance(const Values& got, const Values& want) {
    double difference = 0, scale = 1e-30;
    for (size_t i = 0; i < want.size(); ++i) {
        difference = std::max(difference, std::abs(got[i] - want[i]));
        scale = std::max(scale, std::abs(want[i]));
    }
    return got.size() == want.size() ? difference / scale : INFINITY;
}

TEST_P(TemporalAttention, EqualsADecoderWithOneSlotPerChunk) {
    if (dtype() != DType::kF32) return;  // a decoder in double has no roundings to compare with
    const Config recipe = temporal();
    ModelUnderTest model(recipe, ctx(), dtype(), kShape);
    const NamedValues weights = model.random_weights(random_, dtype());
    model.set_weights(weights);
    const TokenBatch batch = random_batch(random_, kShape, recipe.model.vocab);
    model.forward(batch);
    Decoder decoder(recipe, weights);
    Values want;
    for (const int32_t token : batch.tokens) {
        const Values logits = decoder.step(token);
        want.insert(want.end(), logits.begin(), logits.end());
    }
    EXPECT_EQ(decoder.slots(), static_cast<size_t>((kShape.time + shape().stride - 1) / shape().stride));
    EXPECT_LT(distance(model.logits(), want), 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Model, TemporalAttention, every_target<StrideCase>({{1}, {2}, {3}, {5}, {13}}),
                         case_name<StrideCase>);

class TemporalAgainstDecoupled : public TemporalAttention {};

/// Subtracts the mean of every column of the first `rows` rows.
void centre_rows(Values& matrix, int64_t rows, int64_t columns) {
    for (int64_t c = 0; c < columns; ++c) {
        double mean = 0;
        for (int64_t r = 0; r < rows; ++r) mean += at(matrix, r * columns + c) / static_cast<double>(rows);
        for (int64_t r = 0; r < rows; ++r) at(matrix, r * columns + c) -= mean;
    }
}

// Chunks of one token and a gate of 1 leave LayerNorm as the difference. A down-projection whose rows sum to
// zero makes latents without a mean, for which LayerNorm is an RMS norm; they are so large that no eps
// matters.
TEST_P(TemporalAgainstDecoupled, EqualsItWithAGateOfOne) {
    if (dtype() != DType::kF32) return;  // roundings differ
    const Config temporal_recipe = temporal(), decoupled_recipe = config("variant = \"mla-decoupled\"");
    ModelUnderTest subject(temporal_recipe, ctx(), dtype(), kShape);
    const int64_t rank = temporal_recipe.attention.kv_rank, width = temporal_recipe.model.d_model;
    NamedValues weights = subject.random_weights(random_, dtype()), shared;
    const auto ends_with = [](const std::string& name, const std::string& end) {
        return name.size() >= end.size() && name.substr(name.size() - end.size()) == end;
    };
    for (auto& [name, values] : weights) {
        if (ends_with(name, "kv_a_proj_with_mqa.weight")) {
            for (int64_t i = 0; i < rank * width; ++i) at(values, i) *= 100;
            centre_rows(values, rank, width);
        }
        const bool of_gate = name.find(".merge_") != std::string::npos;
        // sigmoid(3 * 8 * 8) is 1 in fp32.
        if (of_gate) std::fill(values.begin(), values.end(), ends_with(name, ".bias") ? 8.0 : 0.0);
        if (ends_with(name, "kv_a_layernorm.bias"))
            std::fill(values.begin(), values.end(), 0.0);
        else if (!of_gate)
            shared[name] = values;
    }
    subject.set_weights(weights);
    const TokenBatch batch = random_batch(random_, kShape, temporal_recipe.model.vocab);
    subject.forward_backward(batch);
    const Values logits = subject.logits();
    const NamedValues got = subject.gradients();
    ModelUnderTest decoupled(decoupled_recipe, ctx(), dtype(), kShape);
    decoupled.set_weights(shared);
    decoupled.forward_backward(batch);
    EXPECT_LT(distance(logits, decoupled.logits()), 1e-5);
    for (auto& [name, gradient] : decoupled.gradients()) {
        Values want = gradient;
        // LayerNorm passes no gradient along the mean of a latent.
        if (ends_with(name, "kv_a_proj_with_mqa.weight")) centre_rows(want, rank, width);
        EXPECT_LT(distance(got.at(name), want), 1e-5) << name;
    }
}

INSTANTIATE_TEST_SUITE_P(Model, TemporalAgainstDecoupled, every_target<StrideCase>({{1}}),
                         case_name<StrideCase>);

TEST(TemporalCache, HoldsASlotPerStride) {
    const auto cache = [](int64_t stride) {
        const Config config = parse_config(
            fmt::format("[model]\npreset = \"130m\"\n[attention]\nvariant = \"mtla\"\nstride = {}\n", stride),
            "recipe", {});
        return variant_of(config).cache_values(config);
    };
    EXPECT_EQ(cache(1), 384 + 32);
    EXPECT_EQ(cache(2), 208);
    EXPECT_EQ(cache(3), 139) << "138.67 values per token";
}

}  // namespace
}  // namespace pastur::test
