#include "tools/pastur/convert/convert_report.h"

#include <cmath>

#include "engine/model/attention/variants.h"
#include "kernels/base/printable.h"

namespace pastur {

using convert::LayerReport;
using convert::RotationKind;
using nlohmann::ordered_json;

int64_t cache_bytes(const Config& config) {
    constexpr int64_t kBf16 = 2;
    return kBf16 * config.model.layers * variant_of(config).cache_values(config);
}

LayerReport mean_of(const std::vector<LayerReport>& layers) {
    LayerReport mean;
    if (layers.empty()) return mean;
    for (double LayerReport::*member :
         {&LayerReport::rope, &LayerReport::keys, &LayerReport::values, &LayerReport::queries,
          &LayerReport::balance, &LayerReport::kv_spread, &LayerReport::q_spread}) {
        double sum = 0;
        for (const LayerReport& layer : layers) sum += layer.*member;
        mean.*member = sum / static_cast<double>(layers.size());
    }
    return mean;
}

const char* name_of(RotationKind rotation) {
    return rotation == RotationKind::kReal ? "real" : "complex";
}

namespace {

std::string percent(double share) {
    return fmt::format("{:.2f} %", 100 * share);
}

std::string heading(const ConvertReport& report) {
    std::string text =
        fmt::format("{}: {}, {} layers, {} heads, {} of keys and values, width {}\n",
                    printable(report.source), variant_of(report.before).name, report.before.model.layers,
                    report.before.model.heads, report.before.model.kv_heads, report.before.model.d_model);
    if (report.calibrate_tokens > 0)
        text += fmt::format("measured on {} tokens, perplexities on {} held-out tokens\n",
                            report.calibrate_tokens, report.eval_tokens);
    return text;
}

std::string layer_table(const ConvertReport& report) {
    const bool queries = report.after.attention.q_rank > 0, norms = report.after.attention.latent_norm;
    std::string text = fmt::format(
        "\nenergy kept: rope, of the keys in the rotary key; keys, values{}, of the rest in the latent{}\n"
        "{:>5}  {:>9}  {:>9}  {:>9}{}{}\n",
        queries ? ", queries" : "", norms ? "; spread of the latent's RMS over tokens" : "", "layer", "rope",
        "keys", "values", queries ? fmt::format("  {:>9}", "queries") : "",
        norms ? fmt::format("  {:>7}", "spread") : "");
    const auto row = [&](const std::string& name, const LayerReport& layer) {
        text += fmt::format("{:>5}  {:>9}  {:>9}  {:>9}", name, percent(layer.rope), percent(layer.keys),
                            percent(layer.values));
        if (queries) text += fmt::format("  {:>9}", percent(layer.queries));
        if (norms) text += fmt::format("  {:>7.4f}", layer.kv_spread);
        text += "\n";
    };
    for (size_t i = 0; i < report.layers.size(); ++i) row(fmt::format("{}", i), report.layers[i]);
    row("mean", mean_of(report.layers));
    return text;
}

ordered_json layer_json(const LayerReport& layer) {
    return {{"rope", layer.rope},        {"keys", layer.keys},       {"values", layer.values},
            {"queries", layer.queries},  {"balance", layer.balance}, {"kv_spread", layer.kv_spread},
            {"q_spread", layer.q_spread}};
}

ordered_json heading_json(const ConvertReport& report) {
    return {{"source", report.source},
            {"variant", variant_of(report.before).name},
            {"calibrate_tokens", report.calibrate_tokens},
            {"eval_tokens", report.eval_tokens},
            {"cache_bytes", cache_bytes(report.before)}};
}

}  // namespace

std::string describe(const ConvertReport& report) {
    std::string text = heading(report);
    const AttentionConfig& a = report.after.attention;
    if (!report.layers.empty()) {
        text += fmt::format("rotation {}, fold {}, rope_dim {}, kv_rank {}{}{}\n",
                            name_of(report.options.rotation), report.options.fold, a.rope_dim, a.kv_rank,
                            a.q_rank > 0 ? fmt::format(", q_rank {}", a.q_rank) : "",
                            a.latent_norm ? ", normalised latents" : ", latents without norm");
        text += layer_table(report);
    }
    if (!report.stages.empty())
        text += fmt::format("\n{:<16}{:>10}{:>14}{:>10}\n", "after", "loss", "perplexity", "change");
    const double first = report.stages.empty() ? 0 : report.stages.front().loss;
    for (const ConvertStage& stage : report.stages)
        text += fmt::format("{:<16}{:>10.5f}{:>14.4f}{:>10}\n", stage.name, stage.loss, std::exp(stage.loss),
                            fmt::format("{:+.2f} %", 100 * std::expm1(stage.loss - first)));
    const int64_t before = cache_bytes(report.before), after = cache_bytes(report.after);
    text += fmt::format("\ncache: {} bytes per token before, {} after ({:.1f} %), in bf16\n", before, after,
                        100 * static_cast<double>(after) / static_cast<double>(before));
    if (!report.out.empty())
        text += fmt::format("{}: {}\n", printable(report.out), variant_of(report.after).name);
    return text;
}

ordered_json to_json(const ConvertReport& report) {
    ordered_json json = heading_json(report);
    json["to"] = variant_of(report.after).name;
    const AttentionConfig& a = report.after.attention;
    if (!report.layers.empty())
        json["options"] = {{"rotation", name_of(report.options.rotation)},
                           {"fold", report.options.fold},
                           {"rope_dim", a.rope_dim},
                           {"kv_rank", a.kv_rank},
                           {"q_rank", a.q_rank},
                           {"latent_norm", a.latent_norm}};
    json["cache_bytes_after"] = cache_bytes(report.after);
    json["stages"] = ordered_json::array();
    for (const ConvertStage& stage : report.stages)
        json["stages"].push_back(
            {{"after", stage.name}, {"loss", stage.loss}, {"ppl", std::exp(stage.loss)}});
    json["layers"] = ordered_json::array();
    for (const LayerReport& layer : report.layers) json["layers"].push_back(layer_json(layer));
    return json;
}

std::string describe_trades(const ConvertReport& report) {
    return heading(report) +
           fmt::format(
               "perplexity {:.4f}, cache {} bytes per token in bf16\n\n"
               "rope_dim {}, fold {}; energy kept, mean over layers: rope, of the keys in the rotary key; keys, values, "
               "of the rest in the latent\n{:<9}{:>8}{:>9}{:>9}{:>10}{:>10}{:>10}{:>13}{:>11}\n",
               std::exp(report.stages.front().loss), cache_bytes(report.before), report.options.rope_dim,
               report.options.fold, "rotation", "kv_rank", "cache B", "", "rope", "keys", "values",
               "perplexity", "change");
}

std::string describe(const ConvertReport& report, const ConvertTrade& trade) {
    const auto before = static_cast<double>(cache_bytes(report.before));
    return fmt::format(
        "{:<9}{:>8}{:>9}{:>9}{:>10}{:>10}{:>10}{:>13.4f}{:>11}\n", name_of(trade.rotation), trade.kv_rank,
        trade.cache_bytes, fmt::format("{:.1f} %", 100 * static_cast<double>(trade.cache_bytes) / before),
        percent(trade.mean.rope), percent(trade.mean.keys), percent(trade.mean.values), std::exp(trade.loss),
        fmt::format("{:+.2f} %", 100 * std::expm1(trade.loss - report.stages.front().loss)));
}

ordered_json to_json(const ConvertReport& report, const std::vector<ConvertTrade>& trades) {
    ordered_json json = heading_json(report);
    json["rope_dim"] = report.options.rope_dim;
    json["fold"] = report.options.fold;
    json["loss"] = report.stages.front().loss;
    json["trades"] = ordered_json::array();
    for (const ConvertTrade& trade : trades)
        json["trades"].push_back({{"rotation", name_of(trade.rotation)},
                                  {"kv_rank", trade.kv_rank},
                                  {"cache_bytes", trade.cache_bytes},
                                  {"kept", layer_json(trade.mean)},
                                  {"loss", trade.loss},
                                  {"ppl", std::exp(trade.loss)}});
    return json;
}

}  // namespace pastur
