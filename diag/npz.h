#pragma once
// NumPy's archive of arrays: a zip file of .npy members, opened by plain numpy.load.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pastur {

/// A float64 array for an archive, row-major.
struct NpzArray {
    std::string name;  ///< ASCII, the key in numpy.load(...)
    std::vector<int64_t> shape;
    std::span<const double> values;  ///< as many as the shape says
};

/// The bytes of the archive (.npy format 1.0, members stored, not deflated: eigenvalues do not compress).
/// Equal arrays give equal bytes: members carry no date. Throws (kOther) when a member or the archive reaches
/// 4 GiB, or there are more than 65,534 members: zip's limits without its 64-bit extension.
std::string npz_bytes(std::span<const NpzArray> arrays);

}  // namespace pastur
