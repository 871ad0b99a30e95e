#include "engine/spectra/qk_factors.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <tuple>

#include "engine/model/attention/variants.h"

namespace pastur {
namespace {

constexpr int64_t kEveryHead = -1;

/// The weight of this name, f32 [rows, columns]; rows may be strided.
ConstTensor matrix_named(const std::string& name, const WeightLookup& lookup) {
    const ConstTensor weight = lookup(name);
    PASTUR_CHECK(weight.rank() == 2 && weight.stride(1) == 1, "{} is {}", name, describe(weight));
    return weight;
}

/// Appends `rows` rows of a weight to a factor's sources.
void append_rows(Factor& factor, ConstTensor weight, int64_t first, int64_t rows) {
    for (int64_t i = 0; i < rows; ++i) factor.sources.push_back(weight.slice(0, first + i, 1).data<float>());
}

/// Appends one copy of a side's first factor: the rows of heads [begin, end). Rows of `terms` consecutive
/// heads are added up.
void append_heads(Factor& factor, const QkSide& side, int64_t begin, int64_t end, int64_t terms,
                  const std::string& prefix, const WeightLookup& lookup) {
    const size_t before = factor.sources.size();
    factor.terms = terms;
    factor.unit_columns = 0;
    for (int64_t head = begin; head < end; head += terms)
        for (const QkRows& rows : side.head) {
            if (rows.weight.empty()) {
                factor.unit_columns = rows.rows;
                factor.sources.insert(factor.sources.end(), static_cast<size_t>(rows.rows), nullptr);
                continue;
            }
            const ConstTensor weight = matrix_named(prefix + rows.weight, lookup);
            factor.columns = weight.size(1);
            for (int64_t i = 0; i < rows.rows; ++i)
                for (int64_t term = head; term < head + terms; ++term)
                    append_rows(factor, weight, rows.first + term * rows.stride + i, 1);
        }
    factor.columns += factor.unit_columns;
    factor.rows = static_cast<int64_t>(factor.sources.size() - before) / terms;
    if (!side.gain.empty()) factor.gains.push_back(lookup(prefix + side.gain).data<float>());
}

std::string prefix_of(int64_t layer) {
    return fmt::format("model.layers.{}.self_attn.", layer);
}

/// The factors of a side, its heads' first. An item of one of `queries` heads takes the head of `side` that
/// serves it; an item of every head takes all of them, `terms` consecutive ones added up.
std::vector<Factor> side_factors(const QkSide& side, const SpectralMatrix& matrix, int64_t queries,
                                 int64_t terms, const WeightLookup& lookup) {
    std::vector<Factor> factors(1);
    factors[0].scale = side.scale;
    for (const auto& [layer, head] : matrix.items) {
        const int64_t mine = head * side.heads / queries;
        if (head == kEveryHead)
            append_heads(factors[0], side, 0, side.heads, terms, prefix_of(layer), lookup);
        else
            append_heads(factors[0], side, mine, mine + 1, 1, prefix_of(layer), lookup);
    }
    const auto group = static_cast<size_t>(matrix.product.group);
    for (const QkLink& link : side.links) {
        Factor& factor = factors.emplace_back();
        factor.shared = true;
        for (size_t item = 0; item < matrix.items.size(); item += group) {
            const ConstTensor weight =
                matrix_named(prefix_of(matrix.items[item].layer) + link.weight, lookup);
            factor.rows = link.rows > 0 ? link.rows : weight.size(0);
            factor.columns = weight.size(1);
            append_rows(factor, weight, link.first_row, factor.rows);
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

/// The form of a part at initialisation. The terms of a sum share the links of their queries.
SpectralMatrix::Form form_of(const QkForm& form, const QkPart& part, bool literal) {
    if (!form.content || &part != &form.whole) return SpectralMatrix::Form::kProduct;
    return literal || !part.query.links.empty() ? SpectralMatrix::Form::kOther
                                                : SpectralMatrix::Form::kSumOfProducts;
}

SpectralMatrix qk_matrix(const Config& config, const QkForm& form, const QkPart& part,
                         const std::string& name, bool per_head, bool literal, const WeightLookup& lookup) {
    SpectralMatrix matrix{name, {}, {}, form_of(form, part, literal)};
    if (matrix.form == SpectralMatrix::Form::kSumOfProducts) matrix.terms = {"qk_content", "qk_rope"};
    const int64_t heads = part.query.heads;
    for (int64_t layer = 0; layer < config.model.layers; ++layer) {
        if (!per_head) matrix.items.push_back({layer, kEveryHead});
        for (int64_t head = 0; per_head && head < heads; ++head) matrix.items.push_back({layer, head});
    }
    matrix.product.items = static_cast<int64_t>(matrix.items.size());
    matrix.product.group = per_head ? heads : 1;
    // In the sum of all M_h, the queries of heads with the same keys are added up.
    const int64_t terms = literal ? 1 : heads / part.key.heads;
    std::vector<Factor> query = side_factors(part.query, matrix, heads, terms, lookup);
    std::vector<Factor> key = side_factors(part.key, matrix, heads, 1, lookup);
    // Q^T K; the literal form is Q K^T.
    std::vector<Factor>& factors = matrix.product.factors;
    factors = literal ? std::move(query) : transposed(std::move(query));
    std::vector<Factor> right = literal ? transposed(std::move(key)) : std::move(key);
    factors.insert(factors.end(), std::make_move_iterator(right.begin()),
                   std::make_move_iterator(right.end()));
    return matrix;
}

/// Appends each weight matrix on its own; those of one short name and shape share a SpectralMatrix.
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
        append_rows(matrix.product.factors[0], matrix_named(weight.name, lookup), 0, weight.shape[0]);
    }
}

}  // namespace

std::vector<SpectralMatrix> spectral_matrices(const Config& config, const std::vector<Scope>& scopes,
                                              const std::vector<NamedShape>& weights,
                                              const WeightLookup& lookup) {
    const QkForm form = variant_of(config).qk_form(config);
    const auto wanted = [&](Scope scope) {
        return std::find(scopes.begin(), scopes.end(), scope) != scopes.end();
    };
    std::vector<SpectralMatrix> matrices;
    const auto add = [&](const char* name, const QkPart& part, bool per_head, bool literal = false) {
        matrices.push_back(qk_matrix(config, form, part, name, per_head, literal, lookup));
    };
    const auto add_both = [&](const char* name, const QkPart& part, bool literal = false) {
        for (const bool per_head : {false, true}) add(name, part, per_head, literal);
    };
    if (wanted(Scope::kLayer)) add("qk", form.whole, false);
    if (wanted(Scope::kHead)) add("qk", form.whole, true);
    if (wanted(Scope::kContent)) add_both("qk_content", form.content.value());
    if (wanted(Scope::kRope)) add_both("qk_rope", form.rope.value());
    if (wanted(Scope::kLiteral)) add_both("qk_literal", form.whole, true);
    if (wanted(Scope::kWeights)) append_weights(matrices, weights, lookup);
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
