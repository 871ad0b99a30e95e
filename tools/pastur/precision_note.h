#pragma once
// Models trained in fp8, which commands compute in the device's ordinary precision.
#include "engine/config/choices.h"
#include "kernels/base/tensor.h"

namespace pastur {

/// If the model was trained in fp8 and --precision is auto, one line on standard error says that it is computed in
/// `dtype`. hint: ends the line.
void note_precision(const class ModelFolder& model, Precision option, DType dtype, const char* hint = "");

}  // namespace pastur
