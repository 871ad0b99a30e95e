#include "engine/train/training_data.h"

#include <fmt/format.h>

#include <filesystem>

#include "data/mixture.h"
#include "data/shards/shard.h"
#include "kernels/base/error.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;

SequenceLayout layout_of(Packing packing) {
    switch (packing) {
        case Packing::kDocuments:
            return SequenceLayout::kDocuments;
        case Packing::kPad:
            return SequenceLayout::kPad;
        case Packing::kStream:
            break;
    }
    return SequenceLayout::kStream;
}

TokenLoader open_loader(std::vector<LoaderSource> sources, const Config& config) {
    return TokenLoader(std::move(sources), config.data.seq_len, config.model.vocab, config.train.seed,
                       layout_of(config.data.packing));
}

/// The training or validation shards of the mixture's sources.
std::vector<LoaderSource> mixture_sources(const Config& config, const std::string& split) {
    std::vector<LoaderSource> sources;
    for (const auto& [where, weight] : parse_mixture(config.data.mixture)) {
        const bool folder = fs::is_directory(where);
        const std::string glob = folder ? shard_glob(where, split) : where;
        if (split == "val" && (!folder || shard_paths(glob).empty()))
            fail(ExitCode::kMissingInput, "set data.val to validation shards: {} of data.mixture has none",
                 where);
        sources.push_back({where, glob, weight});
    }
    return sources;
}

TokenLoader open_split(const Config& config, const std::string& glob, const std::string& split) {
    if (!glob.empty()) return open_loader({{glob, glob, 1}}, config);
    if (!config.data.mixture.empty()) return open_loader(mixture_sources(config, split), config);
    fail(ExitCode::kUsage,
         "set data.dir to a folder made by `pastur data prepare`, or data.{} to shards: the recipe names "
         "no data",
         split);
}

std::vector<TrainingData::NamedLoader> open_val_sets(const Config& config) {
    std::vector<TrainingData::NamedLoader> sets;
    for (const auto& [name, glob] : parse_val_sets(config.data.val_sets)) {
        const std::string shards = fs::is_directory(glob) ? shard_glob(glob, "val") : glob;
        sets.push_back({name, open_loader({{name, shards, 1}}, config)});
    }
    return sets;
}

double millions(int64_t count) {
    return static_cast<double>(count) / 1e6;
}

}  // namespace

TrainingData::TrainingData(const Config& config)
    : train(open_split(config, config.data.train, "train")),
      val(open_split(config, config.data.val, "val")),
      val_sets(open_val_sets(config)) {}

int32_t TrainingData::separator() const {
    const auto of = [](const TokenLoader& loader) {
        if (const std::optional<int32_t> id = loader.separator()) return *id;
        std::string names;
        for (const TokenLoader::Source& source : loader.sources())
            names += (names.empty() ? "" : ", ") + source.name;
        fail(
            ExitCode::kUsage,
            "set data.mask_documents = false, or give data with a meta.json (`data prepare`): nothing says which "
            "token ends the documents of {}",
            names);
    };
    const int32_t id = of(train);
    const auto check = [&](const TokenLoader& loader, const std::string& name) {
        if (of(loader) != id)
            fail(
                ExitCode::kUsage,
                "data.mask_documents: expected one token that ends all documents: token {} ends those of the "
                "training data, {} those of {}",
                id, of(loader), name);
    };
    check(val, "the validation data");
    for (const NamedLoader& set : val_sets) check(set.loader, "the validation set " + set.name);
    return id;
}

std::string TrainingData::describe(const Config& config) const {
    std::string text;
    const std::vector<TokenLoader::Source> sources = train.sources();
    const std::vector<double> epochs = train.epochs(config.train.steps * config.train.global_batch);
    if (sources.size() > 1)
        for (size_t k = 0; k < sources.size(); ++k)
            text += fmt::format(
                "  {:5.1f} % of the sequences from {}: {:.2f} M tokens, {:.2f} epochs in {} steps\n",
                100 * sources[k].share, sources[k].name, millions(sources[k].tokens), epochs[k],
                config.train.steps);
    for (const NamedLoader& set : val_sets)
        text +=
            fmt::format("  validation set {}: {:.2f} M tokens\n", set.name, millions(set.loader.tokens()));
    const auto add_notes = [&](const TokenLoader& loader) {
        for (const std::string& note : loader.notes()) text += fmt::format("  {}\n", note);
    };
    add_notes(train);
    add_notes(val);
    for (const NamedLoader& set : val_sets) add_notes(set.loader);
    return text;
}

void TrainingData::sign(TrainState& state) const {
    state.data_fingerprint = train.fingerprint();
    state.val_fingerprint = val.fingerprint();
    state.source_fingerprints.clear();
    const std::vector<TokenLoader::Source> sources = train.sources();
    if (sources.size() > 1)
        for (const TokenLoader::Source& source : sources)
            state.source_fingerprints.push_back(source.fingerprint);
    state.val_set_fingerprints.clear();
    for (const NamedLoader& set : val_sets) state.val_set_fingerprints[set.name] = set.loader.fingerprint();
}

void check_same_data(const TrainState& checkpoint, const TrainState& present, const TrainingData& data,
                     const std::function<void(const std::string&)>& say) {
    if (checkpoint.data_fingerprint != present.data_fingerprint) {
        std::string changed;
        const std::vector<TokenLoader::Source> sources = data.train.sources();
        if (checkpoint.source_fingerprints.size() == sources.size())
            for (size_t k = 0; k < sources.size(); ++k)
                if (checkpoint.source_fingerprints[k] != sources[k].fingerprint)
                    changed += (changed.empty() ? " in " : ", ") + sources[k].name;
        fail(ExitCode::kCorruptData,
             "resume with the training data of the checkpoint of step {}: the present data is different{}",
             checkpoint.step, changed);
    }
    const auto say_changed = [&](const std::string& what) {
        say(fmt::format("the {} changed after step {}: losses before and after are not comparable", what,
                        checkpoint.step));
    };
    if (checkpoint.val_fingerprint != 0 && checkpoint.val_fingerprint != present.val_fingerprint)
        say_changed("validation data");
    for (const auto& [name, fingerprint] : present.val_set_fingerprints)
        if (const auto before = checkpoint.val_set_fingerprints.find(name);
            before != checkpoint.val_set_fingerprints.end() && before->second != fingerprint)
            say_changed("validation set " + name);
}

Config with_absolute_data(Config config) {
    const auto absolute = [](const std::string& path) {
        if (path.empty()) return path;
        const auto [type, name] = parse_typed_path(path);
        return (type ? std::string(name_of(*type)) + ":" : "") +
               fs::absolute(name).lexically_normal().string();
    };
    for (std::string* path : {&config.data.dir, &config.data.train, &config.data.val})
        *path = absolute(*path);
    if (!config.data.mixture.empty()) config.data.mixture = place_mixture(config.data.mixture, absolute);
    config.data.val_sets = place_val_sets(config.data.val_sets, absolute);
    return config;
}

}  // namespace pastur
