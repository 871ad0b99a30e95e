#pragma once

namespace pastur {

/// A point of a law's density, for drawing.
struct DensityPoint {
    double lambda;
    double density;
};

}  // namespace pastur
