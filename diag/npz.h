#pragma once
// NumPy's archive of arrays: a zip file of .npy members that numpy.load opens.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace pastur {

/// A float64 array for an archive, row-major.
struct NpzArray {
    std::string name;  ///< ASCII; the key in numpy.load(...)
    std::vector<int64_t> shape;
    std::span<const double> values;  ///< one per element of the shape
};

/// The bytes of the archive: .npy format 1.0; members are stored without compression, because eigenvalues do
/// not compress, and without a date, so equal arrays give equal bytes. Throws (kOther) if a member or the
/// archive reaches 4 GiB or there are more than 65,534 members, the limits of zip without its 64-bit
/// extension.
std::string npz_bytes(std::span<const NpzArray> arrays);

}  // namespace pastur
