#include "tests/support/sample_run.h"

#include <fmt/format.h>
#include <zlib.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "engine/io/step_name.h"

namespace pastur::test {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
void put(std::string& bytes, T value) {
    bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::string npy_bytes(const NpzMember& member) {
    std::string shape;
    for (const int64_t extent : member.shape) shape += fmt::format("{}, ", extent);
    if (member.shape.size() > 1) shape.resize(shape.size() - 2);
    std::string header = fmt::format("{{'descr': '<f8', 'fortran_order': False, 'shape': ({}), }}", shape);
    header.append(63 - (10 + header.size()) % 64, ' ');
    header += '\n';
    std::string bytes("\x93NUMPY\x01\x00", 8);
    put(bytes, static_cast<uint16_t>(header.size()));
    bytes += header;
    for (const double value : member.values) put(bytes, value);
    return bytes;
}

std::string deflated(const std::string& data) {
    std::string packed(compressBound(data.size()) + 64, '\0');
    z_stream stream{};
    deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
    stream.avail_in = static_cast<uInt>(data.size());
    stream.next_out = reinterpret_cast<Bytef*>(packed.data());
    stream.avail_out = static_cast<uInt>(packed.size());
    deflate(&stream, Z_FINISH);
    packed.resize(stream.total_out);
    deflateEnd(&stream);
    return packed;
}

/// n descending eigenvalues with a bulk that ends at 1; the largest grows with the step and the layer.
std::vector<double> eigenvalues(int64_t n, int64_t step, int64_t layer) {
    std::vector<double> values;
    for (int64_t i = 0; i < n; ++i)
        values.push_back(std::pow(1 - (static_cast<double>(i) + 0.5) / static_cast<double>(n), 2));
    values.front() *= 1 + static_cast<double>(step * (layer + 1)) / 10;
    return values;
}

/// The fields of a record that describe its null's law. The bulk of the product null ends at 1. mla-decoupled has the
/// law of a sum, and the ratio of its terms' strengths grows with the step.
Json law_fields(const SampleRun& run, int64_t step, int64_t n, const std::string& null) {
    const int64_t width = run.heads * run.head_dim;
    if (null == "mp") return {{"rows", width}, {"cols", width}, {"bulk_edge", 0.55}};
    Json fields = {{"dims", {width, n, width}}, {"bulk_edge", 1.0}};
    if (run.variant == "mla-decoupled") {
        const Json dims = {width, n / 2, width};
        fields["terms"] = {{{"matrix", "qk_content"}, {"dims", dims}, {"variance_product", 0.5}},
                           {{"matrix", "qk_rope"},
                            {"dims", dims},
                            {"variance_product", 1 + static_cast<double>(step) / 10}}};
    } else {
        // The product law of factors d x n and n x d ends near 6.75 d^2 for a layer, 3.9 d^2 for a head below.
        fields["variance_product"] = 1 / ((n == width ? 6.75 : 3.9) * static_cast<double>(width * width));
    }
    return fields;
}

/// A record in the form of "v": 1.
Json record(const SampleRun& run, int64_t step, int64_t layer, int64_t head, const char* null) {
    const int64_t n = head < 0 ? run.heads * run.head_dim : run.head_dim;
    const std::vector<double> values = eigenvalues(n, step, layer);
    const double trace = std::accumulate(values.begin(), values.end(), 0.0);
    double squares = 0;
    for (const double value : values) squares += value * value;
    const double edge = std::string(null) == "product" ? 1.05 : 0.6;
    const auto outliers = static_cast<int64_t>(values.front() > edge);
    Json json = {{"v", 1},         {"step", step}, {"layer", layer}, {"head", head},
                 {"matrix", "qk"}, {"null", null}, {"n", n}};
    json.update(law_fields(run, step, n, null));
    json["flags"] = Json::array();
    if (step == 20 && head == 0) json["flags"].push_back("rank_deficient");
    json.update({{"lambda_max", values.front()},
                 {"lambda_plus", edge},
                 {"lambda_minus", 0.0},
                 {"sigma2", 0.01},
                 {"outlier_count", outliers},
                 {"outlier_energy", static_cast<double>(outliers) * values.front() / trace},
                 {"stable_rank", trace / values.front()},
                 {"participation_ratio", trace * trace / squares},
                 {"entropy_rank", trace * trace / squares * 1.2},
                 {"alpha", 2.5},
                 {"alpha_xmin", 0.1},
                 {"ks", 0.05},
                 {"not_known_yet", {1, 2}}});
    return json;
}

/// A line of summary.jsonl: both nulls of a matrix.
std::string summary_line(const SampleRun& run, int64_t step, int64_t layer, int64_t head) {
    Json line, nulls = Json::object();
    for (const char* null : {"mp", "product"}) {
        Json own = Json::object();
        line = record(run, step, layer, head, null);
        for (const char* key : {"lambda_plus", "lambda_minus", "bulk_edge", "sigma2", "outlier_count",
                                "outlier_energy", "ks", "terms"})
            if (line.contains(key)) {
                own[key] = line[key];
                line.erase(key);
            }
        nulls[null] = own;
    }
    line.erase("null");
    line["v"] = 2;
    line["nulls"] = nulls;
    return line.dump() + "\n";
}

void write_spectra(const std::filesystem::path& folder, const SampleRun& run) {
    std::filesystem::create_directories(folder);
    std::ofstream summary(folder / "summary.jsonl");
    const int64_t width = run.heads * run.head_dim;
    for (const int64_t step : run.measured) {
        std::vector<NpzMember> members;
        for (int64_t layer = 0; layer < run.layers; ++layer) {
            members.push_back({fmt::format("layers.{}.qk", layer), {width}, eigenvalues(width, step, layer)});
            NpzMember heads{fmt::format("layers.{}.qk.heads", layer), {run.heads, run.head_dim}, {}};
            for (int64_t head = 0; head < run.heads; ++head) {
                const std::vector<double> values = eigenvalues(run.head_dim, step, layer);
                heads.values.insert(heads.values.end(), values.begin(), values.end());
            }
            members.push_back(std::move(heads));
            for (int64_t head = -1; head < run.heads; ++head) summary << summary_line(run, step, layer, head);
        }
        std::ofstream(folder / (step_name(step) + ".npz"), std::ios::binary)
            << make_npz(members, step % 20 == 0);
    }
}

/// Logits that grow with the step, the layer and the head, and the ranks of the residual stream, which fall.
void write_probe(const std::filesystem::path& folder, const SampleRun& run) {
    std::ofstream logits(folder / "logits.jsonl"), latents(folder / "latents.jsonl");
    for (const int64_t step : run.measured)
        for (int64_t layer = 0; layer < run.layers; ++layer) {
            const auto size = static_cast<double>(step + 10 * layer);
            for (int64_t head = 0; head < run.heads; ++head)
                logits << Json{{"v", 1},
                               {"step", step},
                               {"layer", layer},
                               {"head", head},
                               {"max_logit", 1 + size + static_cast<double>(head)},
                               {"rms_logit", 0.5},
                               {"entropy", 3.0},
                               {"entropy_ratio", 0.75 - 0.25 * static_cast<double>(head == 1)}}
                              .dump()
                       << "\n";
            latents << Json{{"v", 1},
                            {"step", step},
                            {"layer", layer},
                            {"tensor", "residual"},
                            {"tokens", 1024},
                            {"width", 24},
                            {"entropy_rank", 20 / (1 + size / 10)},
                            {"participation_ratio", 18 / (1 + size / 10)},
                            {"rank_90", 12},
                            {"rank_99", 20}}
                           .dump()
                    << "\n";
        }
}

}  // namespace

std::string make_npz(const std::vector<NpzMember>& members, bool compressed) {
    std::string bytes, directory;
    for (const NpzMember& member : members) {
        const std::string data = npy_bytes(member), name = member.name + ".npy";
        const std::string packed = compressed ? deflated(data) : data;
        std::string common;
        put<uint16_t>(common, 20);
        put<uint16_t>(common, 0);
        put<uint16_t>(common, compressed ? 8 : 0);
        put<uint32_t>(common, 0x21'0000);  // modified
        put(common, static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(data.data()),
                                                static_cast<uInt>(data.size()))));
        put(common, static_cast<uint32_t>(packed.size()));
        put(common, static_cast<uint32_t>(data.size()));
        put(common, static_cast<uint16_t>(name.size()));
        put(directory, uint32_t{0x02014b50});
        put<uint16_t>(directory, 20);
        directory += common + std::string(12, '\0');  // no extra field, comment or attributes
        put(directory, static_cast<uint32_t>(bytes.size()));
        directory += name;
        // Like numpy, writes a zip64 field in the local header, which readers skip.
        put(bytes, uint32_t{0x04034b50});
        bytes += common;
        put<uint16_t>(bytes, 20);
        bytes += name;
        put<uint16_t>(bytes, 1);
        put<uint16_t>(bytes, 16);
        put<uint64_t>(bytes, data.size());
        put<uint64_t>(bytes, packed.size());
        bytes += packed;
    }
    const size_t begin = bytes.size();
    bytes += directory;
    put(bytes, uint32_t{0x06054b50});
    put<uint32_t>(bytes, 0);
    put(bytes, static_cast<uint16_t>(members.size()));
    put(bytes, static_cast<uint16_t>(members.size()));
    put(bytes, static_cast<uint32_t>(directory.size()));
    put(bytes, static_cast<uint32_t>(begin));
    put<uint16_t>(bytes, 0);
    return bytes;
}

void write_sample_run(const std::filesystem::path& folder, const SampleRun& run) {
    std::filesystem::create_directories(folder);
    std::ofstream(folder / "config.toml") << fmt::format(
        "[model]\nlayers = {}\nheads = {}\n\n[attention]\nvariant = \"{}\"\n\n[train]\nsteps = {}\nseed = {}\n\n[run]\n"
        "notes = \"{}\"\n",
        run.layers, run.heads, run.variant, run.steps, run.seed, run.notes);
    std::ofstream(folder / "env.json") << R"({"device": "CPU </script>", "libraries": {"openblas": "0.3"}})";
    std::ofstream metrics(folder / "metrics.jsonl");
    const auto log = [&](const char* event, int64_t step, const Json& fields) {
        Json json = {{"v", 1}, {"event", event}, {"step", step}};
        json.update(fields);
        metrics << json.dump() << "\n";
    };
    log("start", 0,
        {{"variant", run.variant},
         {"parameters", 1'000'000},
         {"cache_bytes_per_token", 512},
         {"device", "CPU"},
         {"ranks", 1}});
    for (int64_t step = 1; step <= run.steps; ++step) {
        const double loss = 2 + 6 / (1 + static_cast<double>(step) / 10);
        log("train", step,
            {{"loss", loss},
             {"lr", 0.001},
             {"grad_norm", nullptr},
             {"nonfinite", {"grad_norm"}},
             {"tokens", step * 2048},
             {"tokens_per_s", 1000.5},
             {"mfu", nullptr},
             {"step_ms", 12.5},
             {"data_ms", 0.1},
             {"mem_gib", 0.5},
             {"skipped", 0}});
        if (step % 20 == 0) log("val", step, {{"loss", loss + 0.1}, {"ppl", std::exp(loss + 0.1)}});
    }
    if (!run.measured.empty()) {
        write_spectra(folder / "spectra", run);
        if (run.probed) write_probe(folder / "spectra", run);
        log("spike", 20,
            {{"onset", 20},
             {"layer", 1},
             {"head", 2},
             {"matrix", "qk"},
             {"null", "product"},
             {"threshold", 2.0},
             {"lambda_max", 5.0},
             {"lambda_plus", 1.05}});
        log("collapse", 40,
            {{"onset", 40},
             {"layer", 0},
             {"head", -1},
             {"matrix", "qk"},
             {"null", "product"},
             {"threshold", 0.5},
             {"stable_rank", 1.5},
             {"initial_stable_rank", 8.0}});
    }
    if (run.ended)
        log("end", run.steps, {{"status", "done"}});
    else
        metrics << "{\"v\":1,\"event\":\"train\",\"st";  // the run was killed while it wrote this line
}

}  // namespace pastur::test
