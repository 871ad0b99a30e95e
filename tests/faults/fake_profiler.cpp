// A profiler that NVTX loads (NVTX_INJECTION64_PATH): writes the ranges that the program opens to the file PASTUR_FAKE_TRACE,
// one a line, indented by their depth.
#include <nvtx3/nvToolsExt.h>

#include <cstdio>
#include <cstdlib>

namespace {

std::FILE* file = nullptr;
thread_local int depth = 0;

int push(const char* name) {
    std::fprintf(file, "%*s%s\n", 2 * depth, "", name);
    return depth++;
}
int pop() {
    if (depth == 0) std::fprintf(file, "a range ends that has not begun\n");
    std::fflush(file);
    return --depth;
}

}  // namespace

extern "C" int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t export_table) {
    const auto* callbacks = static_cast<const NvtxExportTableCallbacks*>(export_table(NVTX_ETID_CALLBACKS));
    NvtxFunctionTable table = nullptr;
    unsigned size = 0;
    const char* path = std::getenv("PASTUR_FAKE_TRACE");
    if (!path || !callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &table, &size)) return 0;
    file = std::fopen(path, "w");
    *table[NVTX_CBID_CORE_RangePushA] = reinterpret_cast<NvtxFunctionPointer>(push);
    *table[NVTX_CBID_CORE_RangePop] = reinterpret_cast<NvtxFunctionPointer>(pop);
    return file ? 1 : 0;
}
