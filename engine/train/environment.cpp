#include "engine/train/environment.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "data/files.h"
#include "data/output.h"
#include "engine/io/json_text.h"
#include "kernels/base/error.h"

extern char** environ;

namespace pastur {
namespace {

using nlohmann::json;

/// A function of a shared library in this process, or null. Looking it up in the process gives the versions
/// that run, not those of the build, and needs no #if for libraries that only some builds link.
template <typename Function>
Function* loaded(const char* symbol) {
    return reinterpret_cast<Function*>(dlsym(RTLD_DEFAULT, symbol));
}

/// 1130102 -> "113.1.2" with radices 10000 and 100.
std::string split_version(size_t number, size_t major, size_t minor) {
    return fmt::format("{}.{}.{}", number / major, number % major / minor, number % minor);
}

json library_versions() {
    json libraries = json::object();
    if (const auto config = loaded<char*()>("openblas_get_config")) {
        std::string text = config();
        text.erase(text.find_last_not_of(' ') + 1);
        libraries["openblas"] = text;
    }
    if (const auto mpi = loaded<int(char*, int*)>("MPI_Get_library_version")) {
        std::array<char, 16384> text{};  // MPI_MAX_LIBRARY_VERSION_STRING is 256 to 8192
        int length = 0;
        if (mpi(text.data(), &length) == 0) libraries["mpi"] = std::string(text.data());
    }
    if (const auto cublas = loaded<size_t()>("cublasLtGetVersion"))
        libraries["cublaslt"] = split_version(cublas(), 10000, 100);
    if (const auto nccl = loaded<int(int*)>("ncclGetVersion")) {
        int number = 0;
        if (nccl(&number) == 0) libraries["nccl"] = split_version(static_cast<size_t>(number), 10000, 100);
    }
#if defined(PASTUR_CUDA_RUNTIME)
    libraries["cuda_runtime"] = PASTUR_CUDA_RUNTIME;
#endif
    std::ifstream driver("/proc/driver/nvidia/version");
    std::string line;
    if (std::getline(driver, line)) libraries["nvidia_driver"] = line;
    return libraries;
}

json variables_in_force() {
    constexpr const char* kPrefixes[] = {"NCCL_",        "OMP_", "OPENBLAS_", "GOTO_", "CUBLAS_",  "CUDA_",
                                         "NVIDIA_TF32_", "KMP_", "GOMP_",     "UCX_",  "OMPI_MCA_"};
    json variables = json::object();
    for (char** entry = environ; *entry; ++entry) {
        const std::string text = *entry;
        const bool steers = std::any_of(std::begin(kPrefixes), std::end(kPrefixes),
                                        [&](const char* prefix) { return text.rfind(prefix, 0) == 0; });
        const size_t equals = text.find('=');
        if (steers && equals != std::string::npos)
            variables[text.substr(0, equals)] = text.substr(equals + 1);
    }
    return variables;
}

std::string cpu_model() {
    std::ifstream info("/proc/cpuinfo");
    for (std::string line; std::getline(info, line);)
        if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
    return "unknown";
}

/// "was <old>, is <now>" for two JSON values.
void add_difference(std::vector<std::string>& out, const std::string& name, const json& old,
                    const json& now) {
    if (old == now) return;
    const auto text = [](const json& value) {
        return value.is_null() ? std::string("absent") : value.dump();
    };
    out.push_back(fmt::format("{}: was {}, is {}", name, text(old), text(now)));
}

json member(const json& object, const char* key) {
    return object.is_object() && object.contains(key) ? object.at(key) : json();
}

}  // namespace

std::string version() {
    return PASTUR_VERSION;
}

std::string git_revision() {
    return PASTUR_GIT_REVISION;
}

std::string describe_version() {
    const json libraries = library_versions();
    const auto version_of = [&](const char* library, const char* otherwise) {
        const auto found = libraries.find(library);
        if (found == libraries.end()) return std::string(otherwise);
        const std::string text = found->get<std::string>();
        return text.substr(0, std::min(text.find_first_of(",\n"), text.size()));
    };
    return fmt::format("pastur {} (revision {})\nCUDA runtime: {}\ncuBLASLt: {}\nNCCL: {}\nMPI: {}\nBLAS: {}",
                       version(), git_revision(), version_of("cuda_runtime", "not built in"),
                       version_of("cublaslt", "not built in"), version_of("nccl", "loaded when ranks use it"),
                       version_of("mpi", "not built in"), version_of("openblas", "unknown"));
}

json describe_environment(Context& ctx, int ranks) {
    utsname system{};
    uname(&system);
    json environment = {
        {"version", version()},
        {"git_revision", git_revision()},
        {"host", system.nodename},
        {"system", fmt::format("{} {} {}", system.sysname, system.release, system.machine)},
        {"cpu", cpu_model()},
        {"device", device_name(ctx)},
        {"backend", is_cuda(ctx) ? "cuda" : "cpu"},
        {"ranks", ranks},
        {"libraries", library_versions()},
        {"variables", variables_in_force()},
    };
    if (const auto* cpu = std::get_if<CpuContext>(&ctx)) environment["threads"] = cpu->threads();
    return environment;
}

void write_environment(const std::filesystem::path& file, const json& environment) {
    // Variables may hold any bytes; invalid UTF-8 is replaced to keep the file JSON.
    write_file_atomically(file, environment.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

json read_environment(const std::filesystem::path& file) {
    const std::string text = read_file(file, 1 << 20);
    json environment = parse_json(text);
    if (!environment.is_object())
        fail(ExitCode::kCorruptData, "{}: expected a JSON object that describes a run's environment",
             file.string());
    return environment;
}

std::vector<std::string> compare_environments(const json& old, const json& now) {
    std::vector<std::string> differences;
    for (const char* key : {"version", "git_revision", "backend", "device", "cpu", "threads", "ranks"})
        add_difference(differences, key, member(old, key), member(now, key));
    for (const char* group : {"libraries", "variables"}) {
        const json before = member(old, group), after = member(now, group);
        json names = before.is_object() ? before : json::object();
        if (after.is_object()) names.update(after);
        for (const auto& [name, ignored] : names.items())
            add_difference(differences, fmt::format("{} {}", group, name), member(before, name.c_str()),
                           member(after, name.c_str()));
    }
    return differences;
}

}  // namespace pastur
