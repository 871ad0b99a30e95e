#include "engine/spectra/qk_factors.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

#include "engine/config/config_fields.h"
#include "engine/model/attention.h"

namespace pastur {
namespace {

enum class Part { kWhole, kContent, kRope };

constexpr int64_t kUnitRow = -1;
constexpr int64_t kEveryHead = -1;

/// Rows of a weight, in order; `terms` consecutive indices are added up to one row.
struct RowList {
    std::vector<int64_t> indices;
    int64_t terms = 1;
    void append(int64_t begin, int64_t count) {
        for (int64_t i = 0; i < count; ++i) indices.push_back(begin + i);
    }
    int64_t rows() const { return static_cast<int64_t>(indices.size()) / terms; }
};

/// A weight in a chain, by its name behind the layer's prefix. The first link of a side is cut by rows to a
/// head; an effective map is the product of a side's links.
struct Link {
    std::string weight;
    std::string gain = {};  ///< norm before it, whose gain scales its columns; empty: none
    int64_t first_row = 0;
    int64_t rows = 0;  ///< 0: all
};
using Side = std::vector<Link>;

/// How a variant makes queries and keys.
class QkForm {
  public:
    explicit QkForm(const Config& config)
        : config_(config),
          variant_(variant_of(config)),
          heads_(config.model.heads),
          width_(core_widths(config).qk) {}

    int64_t heads() const { return heads_; }
    bool sums_two_products(Part part) const { return variant_ == kDecoupled && part == Part::kWhole; }
    SpectralMatrix::Form form(Part part, bool literal) const {
        if (!sums_two_products(part)) return SpectralMatrix::Form::kProduct;
        return literal || config_.attention.q_rank > 0 ? SpectralMatrix::Form::kOther
                                                       : SpectralMatrix::Form::kSumOfProducts;
    }

    Side query() const {
        if (variant_ == kDecoupled && config_.attention.q_rank > 0)
            return {{"q_b_proj.weight", "q_a_layernorm.weight"}, {"q_a_proj.weight"}};
        return {{"q_proj.weight"}};
    }

    Side key(Part part) const {
        switch (variant_) {
            case kDecoupled: {
                const int64_t rank = config_.attention.kv_rank;
                if (part == Part::kRope) return {{"kv_a_proj_with_mqa.weight"}};
                const int64_t rows = part == Part::kContent ? rank : rank + config_.attention.rope_dim;
                return {{"kv_b_proj.weight", "kv_a_layernorm.weight"},
                        {"kv_a_proj_with_mqa.weight", "", 0, rows}};
            }
            case kPreropeKeys:
                return {{"k_b_proj.weight", latent_norm("k_a_layernorm.weight")},
                        {"k_a_proj.weight"},
                        {"k_proj.weight"}};
            case kPreropeInput:
                return {{"k_b_proj.weight", latent_norm("kv_a_layernorm.weight")}, {"kv_a_proj.weight"}};
            default:
                return {{"k_proj.weight"}};
        }
    }

    /// `summed`: heads that meet the same keys are added up, as in the sum of all M_h.
    RowList query_rows(Part part, int64_t head, bool summed) const {
        const int64_t begin = part == Part::kRope ? config_.attention.nope_dim : 0;
        const int64_t count = part == Part::kWhole     ? width_
                              : part == Part::kContent ? config_.attention.nope_dim
                                                       : config_.attention.rope_dim;
        RowList rows;
        if (head != kEveryHead) {
            rows.append(head * width_ + begin, count);
            return rows;
        }
        rows.terms = !summed ? 1 : part == Part::kRope ? heads_ : heads_ / kv_heads();
        for (int64_t first = 0; first < heads_; first += rows.terms)
            for (int64_t i = 0; i < count; ++i)
                for (int64_t term = 0; term < rows.terms; ++term)
                    rows.append((first + term) * width_ + begin + i, 1);
        return rows;
    }

    RowList key_rows(Part part, int64_t head) const {
        RowList rows;
        if (part == Part::kRope) {
            rows.append(config_.attention.kv_rank, config_.attention.rope_dim);
            return rows;
        }
        const int64_t first = head == kEveryHead ? 0 : head / (heads_ / kv_heads());
        const int64_t last = head == kEveryHead ? kv_heads() : first + 1;
        for (int64_t h = first; h < last; ++h) {
            if (variant_ != kDecoupled) {
                rows.append(h * width_, width_);
                continue;
            }
            rows.append(h * (config_.attention.nope_dim + config_.attention.v_dim),
                        config_.attention.nope_dim);
            // The shared rotary key passes by the up-projection, to the last d_R rows of kv_a_proj_with_mqa.
            if (part == Part::kWhole)
                rows.indices.insert(rows.indices.end(), static_cast<size_t>(config_.attention.rope_dim),
                                    kUnitRow);
        }
        return rows;
    }

    int64_t unit_columns(Part part) const { return sums_two_products(part) ? config_.attention.rope_dim : 0; }

  private:
    int64_t kv_heads() const { return variant_ == kMha ? config_.model.kv_heads : heads_; }
    std::string latent_norm(const char* name) const { return config_.attention.latent_norm ? name : ""; }

    const Config& config_;
    VariantSet variant_;
    int64_t heads_, width_;
};

/// Appends one copy of a factor: the rows of a weight under `prefix`.
void append_copy(Factor& factor, const Link& link, const RowList& rows, const std::string& prefix,
                 const WeightLookup& lookup) {
    const ConstTensor weight = lookup(prefix + link.weight);
    PASTUR_CHECK(weight.rank() == 2 && weight.stride(1) == 1, "{}{} is {}", prefix, link.weight,
                 describe(weight));
    factor.rows = rows.rows();
    factor.columns = weight.size(1) + factor.unit_columns;
    factor.terms = rows.terms;
    for (const int64_t row : rows.indices)
        factor.sources.push_back(row == kUnitRow ? nullptr : weight.slice(0, row, 1).data<float>());
    if (!link.gain.empty()) factor.gains.push_back(lookup(prefix + link.gain).data<float>());
}

/// The factors of a side for the given items, first link first.
std::vector<Factor> side_factors(const Side& side, const std::vector<SpectralMatrix::Item>& items,
                                 int64_t group, const std::function<RowList(int64_t head)>& first_rows,
                                 int64_t unit_columns, const WeightLookup& lookup) {
    std::vector<Factor> factors;
    for (size_t i = 0; i < side.size(); ++i) {
        const Link& link = side[i];
        Factor& factor = factors.emplace_back();
        factor.shared = i > 0;
        factor.unit_columns = i == 0 ? unit_columns : 0;
        for (size_t item = 0; item < items.size(); item += factor.shared ? static_cast<size_t>(group) : 1) {
            const std::string prefix = fmt::format("model.layers.{}.self_attn.", items[item].layer);
            RowList rows;
            if (i == 0)
                rows = first_rows(items[item].head);
            else
                rows.append(link.first_row, link.rows > 0 ? link.rows : lookup(prefix + link.weight).size(0));
            append_copy(factor, link, rows, prefix, lookup);
        }
    }
    return factors;
}

/// The product of the factors, transposed.
std::vector<Factor> transposed(std::vector<Factor> factors) {
    std::reverse(factors.begin(), factors.end());
    for (Factor& factor : factors) factor.transposed = !factor.transposed;
    return factors;
}

SpectralMatrix qk_matrix(const Config& config, const std::string& name, Part part, bool per_head,
                         bool literal, const WeightLookup& lookup) {
    const QkForm form(config);
    SpectralMatrix matrix{name, {}, {}, form.form(part, literal)};
    if (matrix.form == SpectralMatrix::Form::kSumOfProducts) matrix.terms = {"qk_content", "qk_rope"};
    for (int64_t layer = 0; layer < config.model.layers; ++layer) {
        if (!per_head) matrix.items.push_back({layer, kEveryHead});
        for (int64_t head = 0; per_head && head < form.heads(); ++head) matrix.items.push_back({layer, head});
    }
    matrix.product.items = static_cast<int64_t>(matrix.items.size());
    matrix.product.group = per_head ? form.heads() : 1;
    std::vector<Factor> query = side_factors(
        form.query(), matrix.items, matrix.product.group,
        [&](int64_t head) { return form.query_rows(part, head, !literal); }, 0, lookup);
    std::vector<Factor> key = side_factors(
        form.key(part), matrix.items, matrix.product.group,
        [&](int64_t head) { return form.key_rows(part, head); }, form.unit_columns(part), lookup);
    // Q^T K, or Q K^T as it would be typed.
    std::vector<Factor>& factors = matrix.product.factors;
    factors = literal ? std::move(query) : transposed(std::move(query));
    std::vector<Factor> right = literal ? transposed(std::move(key)) : std::move(key);
    factors.insert(factors.end(), std::make_move_iterator(right.begin()),
                   std::make_move_iterator(right.end()));
    return matrix;
}

/// Every matrix by itself; those of one short name and shape together.
void append_weights(std::vector<SpectralMatrix>& matrices, const std::vector<NamedShape>& weights,
                    const WeightLookup& lookup) {
    std::map<std::tuple<std::string, int64_t, int64_t>, size_t> known;
    for (const NamedShape& weight : weights) {
        if (weight.shape.rank() != 2) continue;
        const ShortName name = short_name(weight.name);
        const auto [entry, added] =
            known.try_emplace({name.name, weight.shape[0], weight.shape[1]}, matrices.size());
        if (added) matrices.push_back({name.name, {}, {0, 1, {Factor{weight.shape[0], weight.shape[1]}}}});
        SpectralMatrix& matrix = matrices[entry->second];
        matrix.items.push_back({name.layer, kEveryHead});
        ++matrix.product.items;
        RowList rows;
        rows.append(0, weight.shape[0]);
        append_copy(matrix.product.factors[0], {weight.name}, rows, "", lookup);
    }
}

}  // namespace

std::vector<SpectralMatrix> spectral_matrices(const Config& config, const std::vector<std::string>& scopes,
                                              const std::vector<NamedShape>& weights,
                                              const WeightLookup& lookup) {
    const auto wanted = [&](const char* scope) {
        return std::find(scopes.begin(), scopes.end(), scope) != scopes.end();
    };
    std::vector<SpectralMatrix> matrices;
    const auto add = [&](const char* name, Part part, bool literal = false) {
        for (const bool per_head : {false, true})
            matrices.push_back(qk_matrix(config, name, part, per_head, literal, lookup));
    };
    if (wanted("layer")) matrices.push_back(qk_matrix(config, "qk", Part::kWhole, false, false, lookup));
    if (wanted("head")) matrices.push_back(qk_matrix(config, "qk", Part::kWhole, true, false, lookup));
    if (wanted("content")) add("qk_content", Part::kContent);
    if (wanted("rope")) add("qk_rope", Part::kRope);
    if (wanted("literal")) add("qk_literal", Part::kWhole, true);
    if (wanted("weights")) append_weights(matrices, weights, lookup);
    return matrices;
}

std::vector<FactorProduct> products_of(const std::vector<SpectralMatrix>& matrices) {
    std::vector<FactorProduct> products;
    for (const SpectralMatrix& matrix : matrices) products.push_back(matrix.product);
    return products;
}

std::vector<NamedShape> shapes_of(const ParamTable& table) {
    std::vector<NamedShape> shapes;
    for (const Param& param : table.params()) shapes.push_back({param.name, param.shape});
    return shapes;
}

ShortName short_name(const std::string& weight) {
    std::string name = weight;
    const auto drop_front = [&](std::string_view prefix) {
        const bool there = name.starts_with(prefix);
        if (there) name.erase(0, prefix.size());
        return there;
    };
    if (name.ends_with(".weight")) name.resize(name.size() - 7);
    int64_t layer = -1;
    if (drop_front("model.layers.")) {
        const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), layer);
        if (error == std::errc() && *end == '.') name.erase(0, static_cast<size_t>(end - name.data()) + 1);
    }
    for (const char* part : {"model.", "self_attn.", "mlp."}) drop_front(part);
    return {layer, name};
}

}  // namespace pastur
