#pragma once
// A corpus of stories and a recipe that trains in a second, for tests that run `pastur train`.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/io/safetensors.h"
#include "tests/support/command_line.h"

namespace pastur::test {

class TrainingLine : public CommandLine {
  protected:
    explicit TrainingLine(const fs::path& parent = fs::temp_directory_path()) : CommandLine(parent) {
        const Result synth = run("data synth --docs 400 --seed 1 --out stories.txt");
        EXPECT_EQ(synth.code, 0) << synth.err;
        const Result prepare =
            run("data prepare --input stories.txt --tokenizer bytes --out corpus --val-fraction 0.1");
        EXPECT_EQ(prepare.code, 0) << prepare.err;
        write(
            "r.toml",
            "[model]\nvocab = 512\nd_model = 16\nffn = 24\nlayers = 2\nheads = 2\n[data]\ndir = \"corpus\"\n"
            "seq_len = 16\n[train]\nsteps = 4\nglobal_batch = 4\nval_tokens = 64\n[checkpoint]\nevery = 2\n"
            "[run]\nlog_every = 1\n");
    }

    /// Weights, moments, losses and spectra: results that stops and resumes must not change.
    std::map<std::string, std::string> outcome(const std::string& run_folder) const {
        std::map<std::string, std::string> all;
        const fs::path folder = file(run_folder);
        for (const char* name : {"model.safetensors", "optimizer.rank0.safetensors"}) {
            const SafetensorsFile tensors(folder / "checkpoints" / "step_00000004" / name);
            for (const auto& [tensor, entry] : tensors.entries())
                all[tensor].assign(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
        }
        for (const nlohmann::json& event : metrics(run_folder))
            if (event.contains("loss"))
                all[fmt::format("{} {}", event["event"].dump(), event["step"].dump())] = event["loss"].dump();
        for (const auto& entry : fs::directory_iterator(folder / "spectra"))
            if (entry.is_regular_file() &&
                entry.path().filename().string().find(".abandoned.") == std::string::npos)
                all[entry.path().filename().string()] = read_file(entry.path(), 1 << 24);
        return all;
    }
    std::vector<nlohmann::json> metrics(const std::string& run_folder) const {
        std::vector<nlohmann::json> events;
        std::ifstream in(file(run_folder + "/metrics.jsonl"));
        for (std::string line; std::getline(in, line);)
            if (auto event = nlohmann::json::parse(line, nullptr, false); event.is_object())
                events.push_back(std::move(event));
        return events;
    }
};

}  // namespace pastur::test
