#pragma once
// The text of a conversion as token sequences: what covariances are measured on, and what perplexities are.
#include <string>

#include "engine/model/batch.h"
#include "engine/train/checkpoint/model_folder.h"

namespace pastur::convert {

/// Sequences [0, count) of seq_len + 1 tokens each, the last one a target only.
struct TokenSequences {
    int64_t count = 0, seq_len = 0;
    ReadSequence read;
    int64_t tokens() const { return count * seq_len; }
};

struct TextOptions {
    std::string calibrate;  ///< a folder of `data prepare`, a glob of shards, or files of text
    std::string eval;       ///< the same; empty: the validation shards of the folder, or the last tenth
    int64_t seq_len = 0;
    int64_t calibrate_tokens = 65536, eval_tokens = 65536;  ///< at most
};

struct CalibrationText {
    TokenSequences calibrate, eval;
};

/// Opens the text for a model. Text that is not in shards is encoded with the tokenizer.model of the model's folder, or
/// with the tokenizer of its recipe's data.dir. Throws (kMissingInput) if there is no data or no tokenizer,
/// (kCorruptData) for data of another tokenizer than the model's, and for too little of it, and as TokenLoader does.
CalibrationText open_text(const TextOptions& options, const ModelFolder& model);

}  // namespace pastur::convert
