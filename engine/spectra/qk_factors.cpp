#include "engine/spectra/qk_factors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
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

/// Appends the gains of `rows` rows, which a norm's weight repeats for every head; no norm: a gain of 1.
void append_row_gains(Factor& factor, const std::string& norm, int64_t rows, const std::string& prefix,
                      const WeightLookup& lookup) {
    const ConstTensor weight = norm.empty() ? ConstTensor() : lookup(prefix + norm);
    for (int64_t i = 0; i < rows; ++i)
        factor.row_gains.push_back(norm.empty() ? nullptr : weight.data<float>() + i % weight.size(0));
}

/// Whether a norm scales rows of a side's first factor.
bool has_row_gains(const QkSide& side) {
    return std::any_of(side.head.begin(), side.head.end(),
                       [](const QkRows& rows) { return !rows.gain.empty(); });
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
            if (has_row_gains(side)) append_row_gains(factor, rows.gain, rows.rows, prefix, lookup);
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
            if (!link.gain.empty())
                append_row_gains(factor, link.gain, factor.rows, prefix_of(matrix.items[item].layer), lookup);
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

/// An item for every layer, or for every head of every layer.
void add_items(SpectralMatrix& matrix, const Config& config, bool per_head) {
    const int64_t heads = config.model.heads;
    for (int64_t layer = 0; layer < config.model.layers; ++layer) {
        if (!per_head) matrix.items.push_back({layer, kEveryHead});
        for (int64_t head = 0; per_head && head < heads; ++head) matrix.items.push_back({layer, head});
    }
    matrix.product.items = static_cast<int64_t>(matrix.items.size());
    matrix.product.group = per_head ? heads : 1;
}

SpectralMatrix qk_matrix(const Config& config, const QkForm& form, const QkPart& part,
                         const std::string& name, bool per_head, bool literal, const WeightLookup& lookup) {
    SpectralMatrix matrix{name, {}, {}, form_of(form, part, literal)};
    if (matrix.form == SpectralMatrix::Form::kSumOfProducts) matrix.terms = {"qk_content", "qk_rope"};
    const int64_t heads = part.query.heads;
    add_items(matrix, config, per_head);
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

/// Rotates the rows of `factor`, from `first` on, in blocks of `width` rows as rotary embedding does at a position.
void rotate(Factor& factor, int64_t first, int64_t width, int64_t position, double base) {
    const int64_t half = width / 2;
    for (int64_t block = first; width > 0 && block + width <= factor.rows; block += width)
        for (int64_t i = 0; i < half; ++i) {
            const double theta = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(width));
            const double angle = static_cast<double>(position) * theta;
            factor.rotations.push_back({static_cast<int32_t>(block + i),
                                        static_cast<int32_t>(block + i + half), std::cos(angle),
                                        std::sin(angle)});
        }
}

/// The heads' forms between a query at position i and a key at position j.
SpectralMatrix position_matrix(const Config& config, const QkForm& form, const PositionPair& pair,
                               const WeightLookup& lookup) {
    const auto [i, j] = pair;
    SpectralMatrix matrix =
        qk_matrix(config, form, form.whole, fmt::format("qk@{},{}", i, j), true, false, lookup);
    const QkSide &query = form.whole.query, &key = form.whole.key;
    const int64_t width = variant_of(config).rope_width(config);
    // The chain: the links of the queries, the heads' query rows, the heads' key rows, the links of the keys.
    std::vector<Factor>& factors = matrix.product.factors;
    Factor& query_rows = factors[query.links.size()];
    rotate(query_rows, query_rows.rows - width, width, form.rotated_before_compression ? i : i - j,
           config.model.rope_theta);
    for (size_t link = 0; link < key.links.size(); ++link)
        if (key.links[link].rotated)
            rotate(factors[query.links.size() + 2 + link], 0, width, j, config.model.rope_theta);
    return matrix;
}

/// The chain that makes the values, by the names of the weights in a layer.
QkSide value_side(const Config& config, const std::vector<NamedShape>& weights) {
    const auto rows_of = [&](const char* name) -> int64_t {
        const auto found = std::find_if(weights.begin(), weights.end(), [&](const NamedShape& weight) {
            return weight.name == prefix_of(0) + name;
        });
        return found == weights.end() ? 0 : found->shape[0];
    };
    const auto gain = [&](const char* norm) { return rows_of(norm) > 0 ? norm : ""; };
    const int64_t heads = config.model.heads, width = variant_of(config).core_widths(config).v;
    if (const int64_t rows = rows_of("v_proj.weight"); rows > 0)
        return {rows / width, {{"v_proj.weight", width, 0, width}}};
    const char* const joint = "kv_a_layernorm.weight";
    if (const int64_t rows = rows_of("kv_b_proj.weight"); rows > 0) {
        const int64_t each = rows / heads;  // of a head: its keys' rows, then its values'
        return {heads,
                {{"kv_b_proj.weight", width, each - width, each}},
                gain(joint),
                {{"kv_a_proj_with_mqa.weight", 0, config.attention.kv_rank}},
                latent_gain(config, config.attention.kv_rank)};
    }
    PASTUR_CHECK(rows_of("v_b_proj.weight") > 0, "no weight of {} makes values",
                 name_of(config.attention.variant));
    const std::vector<QkRows> up = {{"v_b_proj.weight", width, 0, width}};
    if (rows_of("v_a_proj.weight") > 0)
        return {heads,
                up,
                gain("v_a_layernorm.weight"),
                {{"v_a_proj.weight"}},
                latent_gain(config, config.attention.v_rank)};
    return {heads, up, gain(joint), {{"kv_a_proj.weight"}}, latent_gain(config, config.attention.kv_rank)};
}

/// W_V^h W_O^h. In the sum over heads, the output columns of heads with the same values are added up.
SpectralMatrix ov_matrix(const Config& config, const QkSide& values, bool per_head,
                         const WeightLookup& lookup) {
    SpectralMatrix matrix{"ov", {}, {}};
    add_items(matrix, config, per_head);
    const int64_t heads = config.model.heads, width = variant_of(config).core_widths(config).v;
    matrix.product.factors = transposed(side_factors(values, matrix, heads, 1, lookup));
    Factor out;  // o_proj is stored [model width, heads x width]
    out.transposed = true;
    out.pieces = per_head ? 1 : values.heads;
    out.terms = per_head ? 1 : heads / values.heads;
    out.columns = out.pieces * width;
    for (const auto& [layer, head] : matrix.items) {
        const ConstTensor weight = matrix_named(prefix_of(layer) + "o_proj.weight", lookup);
        out.rows = weight.size(0);
        for (int64_t row = 0; row < out.rows; ++row)
            for (int64_t term = 0; term < out.terms; ++term)
                for (int64_t piece = 0; piece < out.pieces; ++piece)
                    out.sources.push_back(weight.slice(0, row, 1).data<float>() +
                                          (per_head ? head : piece * out.terms + term) * width);
    }
    matrix.product.factors.push_back(std::move(out));
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
    if (wanted(Scope::kLayer) || wanted(Scope::kOverlap)) add("qk", form.whole, false);
    if (wanted(Scope::kOverlap)) matrices.back().product.leading_vectors = kSubspaceVectors;
    if (wanted(Scope::kHead)) add("qk", form.whole, true);
    if (wanted(Scope::kContent)) add_both("qk_content", form.content.value());
    if (wanted(Scope::kRope)) add_both("qk_rope", form.rope.value());
    if (wanted(Scope::kLiteral)) add_both("qk_literal", form.whole, true);
    if (wanted(Scope::kPositions))
        for (const PositionPair& pair : position_pairs(config))
            matrices.push_back(position_matrix(config, form, pair, lookup));
    if (wanted(Scope::kOv))
        for (const bool per_head : {false, true})
            matrices.push_back(ov_matrix(config, value_side(config, weights), per_head, lookup));
    if (wanted(Scope::kWeights)) append_weights(matrices, weights, lookup);
    return matrices;
}

std::vector<PositionPair> position_pairs(const Config& config) {
    const int64_t last = config.data.seq_len - 1, middle = config.data.seq_len / 2;
    std::vector<PositionPair> wanted = {{0, 0}, {middle, middle}, {last, last}, {last, middle}, {last, 0}},
                              pairs;
    const std::vector<int64_t>& given = config.diagnostics.positions;
    if (!given.empty()) wanted.clear();
    for (size_t i = 0; i + 1 < given.size(); i += 2) wanted.push_back({given[i], given[i + 1]});
    for (const PositionPair& pair : wanted)
        if (std::find(pairs.begin(), pairs.end(), pair) == pairs.end()) pairs.push_back(pair);
    return pairs;
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
