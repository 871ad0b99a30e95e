#include "engine/spectra/spectra_files.h"

#include <limits>
#include <map>

#include "diag/npz.h"
#include "engine/io/step_name.h"
#include "engine/spectra/subspaces.h"

namespace pastur {
namespace fs = std::filesystem;
namespace {

/// The step of step_00000100.npz; -1 for another name.
int64_t step_of(const fs::path& file) {
    return file.extension() == ".npz" ? step_of_name(file.stem().string()) : -1;
}

void move_archives_aside(const fs::path& folder, int64_t step) {
    std::vector<fs::path> later;
    for (const fs::directory_entry& entry : fs::directory_iterator(folder))
        if (step_of(entry.path()) > step) later.push_back(entry.path());
    if (later.empty()) return;
    make_folders(folder / "abandoned");
    for (const fs::path& file : later) {
        std::error_code error;
        fs::rename(file, folder / "abandoned" / file.filename(), error);
        if (error) fail(ExitCode::kIo, "cannot move {} aside: {}", file.string(), error.message());
    }
    sync_path(folder);
}

}  // namespace

void SpectraFiles::open(int64_t step, const std::function<void(LoggedRecord)>& replay) {
    make_folders(folder_);
    move_archives_aside(folder_, step);
    summary_.open(step, [&](const nlohmann::ordered_json& line) {
        for (LoggedRecord& record : read_records(line)) replay(std::move(record));
    });
}

std::string spectra_npz(const std::vector<SpectralMatrix>& matrices,
                        const std::vector<std::vector<Spectrum>>& spectra) {
    struct Array {
        std::vector<double> values;
        int64_t heads = 0, n = 0;
    };
    std::map<std::string, Array> arrays;
    for (size_t m = 0; m < matrices.size(); ++m) {
        const int64_t n = matrices[m].product.count();
        for (size_t i = 0; i < matrices[m].items.size(); ++i) {
            const auto [layer, head] = matrices[m].items[i];
            Array& array = arrays[(layer < 0 ? "" : fmt::format("layers.{}.", layer)) + matrices[m].name +
                                  (head < 0 ? "" : ".heads")];
            array.n = n;
            array.heads = head + 1;
            const std::vector<double>& eigenvalues = spectra[m][i].eigenvalues;
            array.values.insert(array.values.end(), eigenvalues.begin(), eigenvalues.end());
            array.values.resize(array.values.size() + static_cast<size_t>(n) - eigenvalues.size(),
                                std::numeric_limits<double>::quiet_NaN());
        }
    }
    std::vector<NpzArray> members;
    for (const auto& [name, array] : arrays) {
        const std::vector<int64_t> shape =
            array.heads == 0 ? std::vector<int64_t>{array.n} : std::vector<int64_t>{array.heads, array.n};
        members.push_back({name, shape, array.values});
    }
    const std::vector<Subspace> layers = layer_subspaces(matrices, spectra);
    for (size_t layer = 0; layer < layers.size(); ++layer)
        if (layers[layer].count > 0)
            members.push_back(
                {vectors_name(layer), {layers[layer].count, layers[layer].width}, layers[layer].vectors});
    return npz_bytes(members);
}

fs::path SpectraFiles::spectra_file(int64_t step) const {
    return folder_ / (step_name(step) + ".npz");
}

void SpectraFiles::write_spectra(int64_t step, const std::vector<SpectralMatrix>& matrices,
                                 const std::vector<std::vector<Spectrum>>& spectra) const {
    write_file_atomically(spectra_file(step), spectra_npz(matrices, spectra));
}

void SpectraFiles::append_summary(int64_t step, const std::vector<SpectrumRecord>& records) {
    summary_.append(summary_lines(records, step));
}

}  // namespace pastur
