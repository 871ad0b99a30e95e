// The colours of the page's series: readers with any colour vision tell them apart, on paper and in the dark.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "tools/pastur/report/report_page.h"

namespace pastur {
namespace {

using Colour = std::array<double, 3>;
using Matrix = std::array<Colour, 3>;

/// Simulations of full dichromacy in linear RGB: Machado, Oliveira and Fernandes 2009, table 1 at severity 1.
constexpr Matrix kNormal = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}};
constexpr Matrix kProtanope = {
    {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}};
constexpr Matrix kDeuteranope = {
    {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}};
constexpr Matrix kTritanope = {
    {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}}};

Colour linear_rgb(const std::string& hex) {
    Colour colour{};
    for (size_t i = 0; i < 3; ++i) {
        const double v = static_cast<double>(std::stoi(hex.substr(1 + 2 * i, 2), nullptr, 16)) / 255;
        colour[i] = v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
    }
    return colour;
}
Colour seen_by(const Matrix& eyes, const Colour& colour) {
    Colour seen{};
    for (size_t i = 0; i < 3; ++i) {
        for (size_t j = 0; j < 3; ++j) seen[i] += eyes[i][j] * colour[j];
        seen[i] = std::min(1.0, std::max(0.0, seen[i]));
    }
    return seen;
}
double luminance(const Colour& c) {
    return 0.2126 * c[0] + 0.7152 * c[1] + 0.0722 * c[2];
}
/// CIE L*a*b* under D65.
Colour lab(const Colour& c) {
    const double x = (0.4124 * c[0] + 0.3576 * c[1] + 0.1805 * c[2]) / 0.95047, y = luminance(c),
                 z = (0.0193 * c[0] + 0.1192 * c[1] + 0.9505 * c[2]) / 1.08883;
    const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
    return {116 * f(y) - 16, 500 * (f(x) - f(y)), 200 * (f(y) - f(z))};
}
double distance(const Colour& a, const Colour& b) {
    return std::hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}
double contrast(const Colour& a, const Colour& b) {
    const double light = std::max(luminance(a), luminance(b)), dark = std::min(luminance(a), luminance(b));
    return (light + 0.05) / (dark + 0.05);
}

/// The value of `--name: #rrggbb` from `begin` on in the page's style.
std::string variable(std::string_view style, const std::string& name, size_t begin) {
    const std::string mark = "--" + name + ": #";
    const size_t at = style.find(mark, begin);
    return at == std::string_view::npos ? "" : std::string(style.substr(at + mark.size() - 1, 7));
}

class ReportPalette : public testing::Test {
  protected:
    static std::string_view style() {
        for (const ReportAsset& asset : report_assets())
            if (asset.name == "style.css") return asset.text;
        return {};
    }
    static constexpr int kColours = 7;
};

TEST_F(ReportPalette, IsToldApartWithAnyColourVision) {
    for (const char* begin : {":root", "prefers-color-scheme: dark", "@media print"}) {
        SCOPED_TRACE(begin);
        const size_t at = style().find(begin);
        ASSERT_NE(at, std::string::npos);
        std::vector<Colour> colours;
        for (int i = 0; i < kColours; ++i) {
            const std::string hex = variable(style(), "s" + std::to_string(i), at);
            ASSERT_EQ(hex.size(), 7u) << i;
            colours.push_back(linear_rgb(hex));
        }
        const Colour paper =
            linear_rgb(std::string(begin) == "@media print" ? "#ffffff" : variable(style(), "paper", at));
        for (const Matrix& eyes : {kNormal, kProtanope, kDeuteranope, kTritanope})
            for (size_t i = 0; i < colours.size(); ++i) {
                // A line of 2 pixels in the faintest of Okabe and Ito's colours, orange, has a contrast of 2.2.
                EXPECT_GT(contrast(seen_by(eyes, colours[i]), seen_by(eyes, paper)), 2.0) << i;
                for (size_t j = 0; j < i; ++j)
                    EXPECT_GT(distance(lab(seen_by(eyes, colours[i])), lab(seen_by(eyes, colours[j]))), 15)
                        << i << " " << j;
            }
    }
}

/// The style of former pages had a pair that the measure must reject.
TEST_F(ReportPalette, WouldBeRefusedWithColoursThatLookAlike) {
    const auto seen = [](const char* hex) { return lab(seen_by(kDeuteranope, linear_rgb(hex))); };
    EXPECT_LT(distance(seen("#d55e00"), seen("#b58900")), 5);
    EXPECT_GT(distance(lab(linear_rgb("#d55e00")), lab(linear_rgb("#b58900"))), 30);
}

}  // namespace
}  // namespace pastur
