#include "tools/pastur/precision_note.h"

#include "engine/train/checkpoint/model_folder.h"
#include "tools/pastur/print.h"

namespace pastur {

void note_precision(const ModelFolder& model, Precision option, DType dtype, const char* hint) {
    if (model.config().train.precision != Precision::kFp8 || option != Precision::kAuto) return;
    print_note("{}: trained in fp8, computed here in {}{}\n", model.path().string(),
               dtype == DType::kBF16 ? "bf16" : "fp32", hint);
}

}  // namespace pastur
