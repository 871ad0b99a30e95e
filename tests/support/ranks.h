#pragma once
// Runs the built program as several MPI ranks.
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>

#include "engine/io/safetensors.h"
#include "engine/io/step_name.h"
#include "tests/support/command_line.h"
#include "tests/support/data_files.h"

namespace pastur::test {

/// A small recipe with its data, and access to the files that its runs write.
class SmallRuns : public CommandLine {
  protected:
    static constexpr int64_t kSteps = 6;

    void SetUp() override {
        fs::create_directory(file("data"));
        uint64_t state = 1;
        for (const auto& [name, count] : {std::pair("train", 6000), std::pair("val", 900)}) {
            std::vector<uint16_t> ids;
            for (int i = 0; i < count; ++i) {
                state = state * 6364136223846793005u + 1442695040888963407u;
                ids.push_back(static_cast<uint16_t>(
                    state >> 60 == 0 ? state >> 59 & 31 : (ids.empty() ? 1 : ids.back() * 3 + 1) % 61));
            }
            write_bytes(file(std::string("data/") + name + "_000000.bin"), shard_bytes(ids));
        }
        write("r.toml",
              "[model]\nvocab = 64\nd_model = 32\nlayers = 3\nheads = 2\nffn = 48\n[data]\n"
              "dir = \"data\"\nseq_len = 16\n[train]\nsteps = 6\nglobal_batch = 8\nmicro_batch = 2\n"
              "lr = 1e-2\nwarmup_steps = 2\ngrad_clip = 0.5\nweight_decay = 0.1\nval_every = 3\n"
              "[run]\nlog_every = 1\ntensorboard = false\n[diagnostics]\nevery = 3\nearly = []\n");
    }

    std::vector<nlohmann::json> events(const std::string& run, const std::string& name) const {
        std::vector<nlohmann::json> found;
        std::ifstream lines(file(run + "/metrics.jsonl"));
        for (std::string line; std::getline(lines, line);) {
            nlohmann::json event = nlohmann::json::parse(line);
            if (event.at("event") == name) found.push_back(std::move(event));
        }
        return found;
    }
    std::vector<double> losses(const std::string& run, const std::string& event = "train") const {
        std::vector<double> values;
        for (const nlohmann::json& line : events(run, event)) values.push_back(line.at("loss").get<double>());
        return values;
    }
    std::string checkpoint(const std::string& run, int64_t step) const {
        return file(run + "/checkpoints/" + step_name(step));
    }
    /// The bytes of the weights after the last step.
    std::string weights(const std::string& run, int64_t step = kSteps) const {
        const SafetensorsFile model(checkpoint(run, step) + "/model.safetensors");
        std::string bytes;
        for (const auto& [name, entry] : model.entries())
            bytes.append(reinterpret_cast<const char*>(entry.bytes.data()), entry.bytes.size());
        return bytes;
    }
};

/// SmallRuns under mpirun, on CPU ranks.
class Ranks : public SmallRuns {
  public:
    /// Each rank has one thread, so results are the same for any number of ranks. Session files are in the
    /// test's folder: in the default folder, an mpirun that ends removes those of another one that starts.
    static std::string launcher(int ranks) {
        return "OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
               "OMPI_MCA_orte_tmpdir_base=\"$PWD\" mpirun -q "
               "--oversubscribe --bind-to none -np " +
               std::to_string(ranks) + " ";
    }

  protected:
    std::string train_line(const std::string& run, const std::string& more = "") const {
        return "'" + binary().string() + "' train r.toml --device cpu --run " + run + " " + more;
    }
    Result train(int ranks, const std::string& run, const std::string& more = "") const {
        return shell(launcher(ranks) + train_line(run, more));
    }
    /// The lines on stderr that are pastur's, not mpirun's.
    static std::vector<std::string> own_lines(const std::string& err) {
        std::vector<std::string> lines;
        std::istringstream in(err);
        for (std::string line; std::getline(in, line);)
            if (line.starts_with("pastur: ")) lines.push_back(line);
        return lines;
    }
    void expect_trained(int ranks, const std::string& run, const std::string& more = "") const {
        const Result result = train(ranks, run, more);
        ASSERT_EQ(result.code, 0) << ranks << " ranks, " << more << "\n" << result.err;
    }
};

}  // namespace pastur::test
