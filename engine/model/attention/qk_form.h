#pragma once
// How an attention variant makes queries and keys from a layer's input, as plain data: the spectra build the factors of
// M_h = Q_h^T K_h from it (engine/spectra/qk_factors.h), and train.qk_clip finds in it the rows to scale (qk_clip.h). Weights
// W are stored [out, in] and named by what follows the layer's prefix ("q_proj.weight").
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace pastur {

/// Rows of a matrix that belong to one head.
struct QkRows {
    /// Empty: rows of a unit matrix instead, which select the last columns of what the links make. (A rotary
    /// key that is not up-projected bypasses the up-projection by them.)
    std::string weight;
    int64_t rows;        ///< of a head
    int64_t first = 0;   ///< row of head 0
    int64_t stride = 0;  ///< rows from one head to the next
    /// Weight of the norm over each head's vector, which scales the rows; empty: none.
    std::string gain = {};
};

/// A matrix that all heads share.
struct QkLink {
    std::string weight;
    int64_t first_row = 0;
    int64_t rows = 0;  ///< 0: all
    /// Its outputs are rotated: every head's block of them by the key's position.
    bool rotated = false;
    /// Weight of the norm over each head's vector, which scales the rows of every head; empty: none.
    std::string gain = {};
};

/// The chain of matrices that makes the queries or the keys. The effective map of a head is the product of
/// its own rows and the links, in order; the last of these matrices reads the layer's input.
struct QkSide {
    int64_t heads;             ///< fewer for keys than for queries where heads share keys
    std::vector<QkRows> head;  ///< stacked
    std::string gain = {};  ///< weight of the norm that `head` reads, which scales its columns; empty: none
    std::vector<QkLink> links = {};
    double scale = 1;  ///< of what `head` reads; columns that bypass it by unit rows keep theirs
};

struct QkPart {
    QkSide query, key;
};

/// The whole form and, where it is a sum of two (content and rotary), its terms.
struct QkForm {
    QkPart whole;
    std::optional<QkPart> content = {}, rope = {};
    /// The last rope_width() rows of every head's queries are rotated. False: by the distance of query and key, since
    /// keys are rotated alike. True: by the query's position, since keys are compressed after their rotation.
    bool rotated_before_compression = false;
};

}  // namespace pastur
