#pragma once
// A corpus of stories and a recipe of a second's training, for tests of `pastur train` from outside.
#include "tests/command_line.h"

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
};

}  // namespace pastur::test
