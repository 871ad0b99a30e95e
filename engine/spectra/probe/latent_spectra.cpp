#include "engine/spectra/probe/latent_spectra.h"

#include <map>

#include "engine/spectra/solver_options.h"
#include "kernels/columns.h"

namespace pastur {
namespace {

/// A tensor of a layer: parts [B, T, heads, width], next to each other in a row.
struct Activation {
    std::string name;
    std::vector<ConstTensor> parts;
    int64_t width() const {
        int64_t sum = 0;
        for (const ConstTensor& part : parts) sum += part.size(2) * part.size(3);
        return sum;
    }
};

std::vector<Activation> activations_of(const Block& block, const BatchShape& shape) {
    const auto as_head = [&](const ConstTensor& x) {
        return x.unflatten(0, shape.batch, shape.time).unflatten(2, 1, x.size(1));
    };
    std::vector<Activation> all;
    for (const auto& [name, value] : block.attention().latents()) all.push_back({name, {as_head(value)}});
    const AttentionInputs in = block.attention().inputs();
    Activation& keys = all.emplace_back(Activation{"keys", {in.k}});
    if (!in.k_shared.empty()) keys.parts.push_back(in.k_shared.unflatten(2, 1, in.k_shared.size(2)));
    all.push_back({"values", {in.v}});
    all.push_back({"residual", {as_head(ConstTensor(block.input()))}});
    return all;
}

/// What is kept of all layers, laid out from `base` on, and the products of it.
struct Layout {
    std::vector<LatentSpectra::Kept> kept;
    std::vector<FactorProduct> products;
    int64_t bytes = 0;

    Layout(std::byte* base, const Model& layers, int64_t tokens) {
        const int64_t count = layers.config().model.layers;
        for (const Activation& activation : activations_of(layers.layers().front(), layers.shape())) {
            const Tensor rows(base + bytes, DType::kF32, {count, tokens, activation.width()});
            bytes += align_up(rows.nbytes());
            kept.push_back({activation.name, rows});
            FactorProduct& product = products.emplace_back();
            product.items = count;
            Factor& factor = product.factors.emplace_back(Factor{tokens, activation.width()});
            for (int64_t row = 0; row < count * tokens; ++row)
                factor.sources.push_back(rows.data<float>() + row * activation.width());
        }
    }
};

/// Never read: sizes need some address that is not null.
std::byte nowhere[alignof(float)];

}  // namespace

int64_t LatentSpectra::planned_bytes(Context& ctx, const Model& layers, int64_t tokens) {
    const Layout layout(nowhere, layers, tokens);
    return layout.bytes + solver_bytes(ctx, layout.products, solver_options(layers.config()));
}

LatentSpectra::LatentSpectra(Context& ctx, const Model& layers, int64_t tokens)
    : ctx_(ctx), tokens_(tokens), buffer_(allocate(ctx, Layout(nowhere, layers, tokens).bytes)) {
    Layout layout(buffer_.data(), layers, tokens);
    kept_ = std::move(layout.kept);
    products_ = std::move(layout.products);
    solver_ = make_spectrum_solver(ctx, products_, solver_options(layers.config()));
    solver_->prepare(ctx, products_);
}

void LatentSpectra::keep(int64_t layer, const Block& block, int64_t sequences, int64_t token) {
    if (solving_.valid()) solving_.wait();
    const ConstTensor q = block.attention().inputs().q;
    const BatchShape shape{q.size(0), q.size(1)};
    const std::vector<Activation> activations = activations_of(block, shape);
    for (size_t i = 0; i < activations.size(); ++i) {
        const Tensor rows = kept_[i].rows.slice(0, layer, 1).slice(1, token, sequences * shape.time);
        int64_t column = 0;
        for (const ConstTensor& part : activations[i].parts) {
            const int64_t width = part.size(2) * part.size(3);
            const Tensor columns = rows.slice(2, column, width);
            flatten_heads(
                ctx_, Tensor(columns.bytes(), DType::kF32, {columns.size(1), width}, {columns.stride(1), 1}),
                part.slice(0, 0, sequences));
            column += width;
        }
    }
}

void LatentSpectra::start(int64_t step) {
    for (const Kept& kept : kept_)
        for (int64_t layer = 0; layer < kept.rows.size(0); ++layer)
            center_columns(ctx_, kept.rows.slice(0, layer, 1).reshape({tokens_, kept.rows.size(2)}));
    solver_->follow(ctx_);
    const auto policy = is_cuda(ctx_) ? std::launch::async : std::launch::deferred;
    solving_ = std::async(policy, [this, step] { return solve(step); });
    if (!is_cuda(ctx_)) solving_.wait();
}

LatentSpectra::Measured LatentSpectra::solve(int64_t step) {
    Measured measured{step, {}, {}};
    const std::vector<std::vector<Spectrum>> spectra = solver_->solve(products_);
    std::map<std::string, int> failures;
    for (int64_t layer = 0; layer < products_.front().items; ++layer)
        for (size_t i = 0; i < kept_.size(); ++i) {
            const Spectrum& spectrum = spectra[i][static_cast<size_t>(layer)];
            measured.records.push_back(
                latent_record(layer, kept_[i].name, tokens_, kept_[i].rows.size(2), spectrum.eigenvalues));
            if (spectrum.status == Spectrum::Status::kSolverFailed) ++failures[spectrum.reason];
        }
    for (const auto& [reason, count] : failures)
        measured.failures.push_back(
            fmt::format("step {}: {} covariances could not be solved: {}", step, count, reason));
    return measured;
}

std::optional<LatentSpectra::Measured> LatentSpectra::take(bool wait) {
    if (!solving_.valid()) return {};
    if (!wait && solving_.wait_for(std::chrono::seconds(0)) != std::future_status::ready) return {};
    return solving_.get();
}

}  // namespace pastur
