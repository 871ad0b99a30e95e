#pragma once
// Stages 3 to 5 of a conversion: keys and values balanced and compressed to a joint latent, queries compressed, and a
// latent that its RMS norm leaves as it is.
#include "engine/convert/stages/eigen.h"

namespace pastur::convert {

/// The best W ~ up down of rank r for inputs with E[x x^T] = L L^T: min E|W x - up down x|^2 (principal components of
/// W x). The columns of `up` are orthonormal.
struct LowRank {
    Matrix down;  ///< [r, C]
    Matrix up;    ///< [rows of W, r]
};
LowRank compress(const Matrix& w, const Matrix& lower, int64_t rank);

/// Keys and values from one latent.
struct JointLatent {
    Matrix down;              ///< [r, C]
    Matrix key_up, value_up;  ///< [g D, r] each
    double balance;  ///< the keys' RMS over the values', by which keys are divided before the compression
};
/// content_keys, values [g D, C]. moment: E[x x^T]; lower: its Cholesky factor.
JointLatent compress_jointly(const Matrix& content_keys, const Matrix& values, const Matrix& moment,
                             const Matrix& lower, int64_t rank);

/// 1 - E|W x - up down x|^2 / E|W x|^2; 1 where W x is zero.
double kept_energy(const Matrix& w, const Matrix& up, const Matrix& down, const Matrix& moment);

/// Moments of a latent c over calibration text, with rms^2 = mean c^2.
struct LatentMoments {
    int64_t tokens = 0;
    std::vector<double> squares;  ///< sum over tokens of c_i^2
    Matrix products;              ///< [r, r]: sum of c_i^2 c_j^2
};

/// Another basis of the latent c = down x, c' = T c, in which its RMS varies least over tokens. Inputs x = gain x' have
/// |x'|^2 = C, so |c'|^2 = C - |the rest of x'|^2 where the rows of T down diag(gain) are orthonormal: its variance is that
/// of the directions that the latent leaves out. Components are principal, by falling energy. up T^-1 takes the place of up.
struct LatentBasis {
    Matrix down;     ///< [r, C]: T down
    Matrix inverse;  ///< [r, r]: T^-1
};
LatentBasis orthonormal_basis(const Matrix& down, const std::vector<double>& gain, const Matrix& moment);

/// Scales s of the components of a latent in orthonormal_basis() such that mean_i (s_i c_i)^2 is as constant over tokens as
/// scales can make it: min E[(mean_i s_i^2 c_i^2 - 1)^2] over s_i^2 of at least a twentieth of what equal scales would be.
std::vector<double> levelling_scales(const LatentMoments& moments);

}  // namespace pastur::convert
