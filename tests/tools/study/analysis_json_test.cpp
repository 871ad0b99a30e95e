// The analysis as JSON: sentences whose numbers come from it, its size, and runs that lack things.
#include "tools/pastur/analysis/analysis.h"

#include <gtest/gtest.h>

#include <cctype>
#include <fstream>

#include "tests/support/planted_run.h"
#include "tests/support/sample_run.h"
#include "tests/support/temp_folder.h"
#include "tools/pastur/analysis/sentences.h"
#include "tools/pastur/report/report_page.h"
#include "tools/pastur/study/study_json.h"

namespace pastur::test {
namespace {

using Json = nlohmann::ordered_json;

/// Layers spike and collapse in the order of depth, in mla-decoupled in its rotary part alone.
PlantedRun planted(const std::string& variant) {
    PlantedRun run{.variant = variant};
    if (variant == "mla-decoupled") run.matrices = {"qk", "qk_content", "qk_rope"};
    run.val_loss = variant == "mha" ? 3.5 : 3.25;
    run.form = [](const std::string& matrix, int64_t layer, int64_t) {
        if (matrix == "qk_content") return PlantedForm{};
        return PlantedForm{
            .spike = layer < 4 ? 10 * layer + 10 : -1, .collapse = 10 * layer + 20, .kept = 0.08};
    };
    return run;
}

std::vector<RunStatistics> planted_study(uint64_t seeds) {
    std::vector<RunStatistics> runs;
    for (const char* variant : {"mha", "mla-rope", "mla-prerope", "mla-decoupled"})
        for (RunStatistics& run : planted_seeds(planted(variant), seeds)) runs.push_back(std::move(run));
    return runs;
}

/// Every number in the sentence comes from the analysis: the text without what is listed has no digit.
void check_sentence(const Json& analysis, const Json& sentence) {
    std::string text = sentence.at("text");
    size_t from = 0;
    for (const Json& value : sentence.at("values")) {
        const Json& source = analysis.at(Json::json_pointer(value.at("at").get<std::string>()));
        EXPECT_EQ(source, value.at("value")) << text;
        const std::string shown = value.at("shown");
        const double number = source;
        using As = Sentence::As;
        bool is_shown = false;
        for (const As as : {As::kPercent, As::kPoints, As::kNumber, As::kLoss, As::kChance})
            is_shown |= shown == Sentence::shown(number, as);
        EXPECT_TRUE(is_shown) << shown << " is not " << number;
        const size_t at = text.find(shown, from);
        ASSERT_NE(at, std::string::npos) << text << " lacks " << shown;
        text.erase(at, shown.size());
        from = at;
    }
    EXPECT_TRUE(std::none_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); }))
        << text;
    EXPECT_TRUE(text.ends_with(".")) << text;
}

TEST(Sentences, HaveNoNumberOfTheirOwn) {
    for (const uint64_t seeds : {1u, 3u}) {
        const Json analysis = analyse(planted_study(seeds));
        EXPECT_EQ(analysis.at("sentences").size(), 5u);
        for (const Json& sentence : analysis.at("sentences")) check_sentence(analysis, sentence);
        for (const Json& finding : analysis.at("findings")) check_sentence(analysis, finding.at("because"));
    }
}

TEST(Sentences, SayWhatWasPlanted) {
    PlantedRun mha = planted("mha"), decoupled = planted("mla-decoupled");
    mha.noise = decoupled.noise = 0;
    const Json analysis = analyse({planted_statistics(mha), planted_statistics(decoupled)});
    const auto sentence = [&](size_t index) {
        return analysis.at("sentences").at(index).at("text").get<std::string>();
    };
    EXPECT_EQ(
        sentence(0),
        "Least share of its stable rank at the start that a layer's form keeps: mha 8 %, mla-decoupled 8 % "
        "(content of mla-decoupled 100 %, rotary part 8 %).");
    EXPECT_EQ(sentence(1),
              "Layers that begin to exceed 2 edges of product in the first 5 % of the steps: mha 50 %, "
              "mla-decoupled 50 %; beyond them at the start under mp: mha 0 %, mla-decoupled 0 %.");
    EXPECT_TRUE(sentence(2).starts_with(
        "Measurements from the spike beyond 2 edges of product to a stable rank below 50 % of the start: mha 1, "
        "rank correlation 0.944 (p = 0.0"))
        << sentence(2);
    EXPECT_EQ(sentence(3), "Validation loss at the end: mha 3.500, mla-decoupled 3.250.");
    EXPECT_TRUE(verdict_text(analysis).starts_with(
        "i. Sharp early spikes in specific layers of MHA and MLA-PreRoPE persist and propagate: "));
}

TEST(Analysis, IsTheSameForTheSameRuns) {
    EXPECT_EQ(analyse(planted_study(2)).dump(), analyse(planted_study(2)).dump());
}

TEST(Analysis, OfAStudyOf130mIsBelowAMegabyte) {
    std::vector<RunStatistics> runs;
    for (const char* variant :
         {"mha", "mla-prerope", "mla-decoupled", "mla-rope", "mla-nope", "mha-shared-rope"})
        for (uint64_t seed = 1; seed <= 3; ++seed) {
            PlantedRun run = planted(variant);
            run.seed = seed;
            run.layers = run.heads = 12;
            run.measured = {0, 10, 20, 800};
            run.matrices.insert(run.matrices.end(), {"qk_literal", "qk@mean"});
            run.nulls = {"product", "mp", "profile", "permuted"};
            runs.push_back(planted_statistics(run));
        }
    const Json analysis = analyse(runs);
    EXPECT_LT(readable_text(analysis).size(), 750'000u);
    EXPECT_EQ(Json::parse(readable_text(analysis)), analysis);
}

TEST(Analysis, OfRunsThatLackThingsIsUndecided) {
    const auto run = [](const char* variant) { return planted(variant); };
    std::vector<std::vector<PlantedRun>> cases = {{}};
    for (const char* variant : {"mha", "mla-prerope", "mla-decoupled"}) {
        cases.resize(8);
        size_t i = 1;
        for (uint64_t seed = 1; seed <= 2; ++seed) {
            PlantedRun one = run(variant);
            one.seed = seed;
            std::vector<PlantedRun> changed(7, one);
            changed[0].matrices = {};        // without spectra
            changed[1].measured = {0};       // only the start
            changed[2].measured = {0, 800};  // nothing can be confirmed
            changed[3].nulls = {};           // no null
            changed[4].form = [](const std::string&, int64_t, int64_t) {
                return PlantedForm{.collapse = 10, .kept = NAN, .start_ratio = NAN};
            };
            changed[5].layer_scope = changed[5].head_scope = false;
            changed[6].layers = 1;
            changed[6].form = [](const std::string&, int64_t, int64_t) { return PlantedForm{}; };
            i = 1;
            for (PlantedRun& planted : changed) cases[i++].push_back(std::move(planted));
        }
    }
    for (size_t i = 0; i < cases.size(); ++i) {
        std::vector<RunStatistics> runs;
        for (const PlantedRun& planted : cases[i]) runs.push_back(planted_statistics(planted));
        const Json analysis = analyse(runs);
        for (const Json& finding : analysis.at("findings")) {
            EXPECT_NE(finding.at("verdict"), "supported") << i;
            // Two measurements show no onset, and no null shows no spike, but both show what is kept.
            const bool keeps_are_known = (i == 3 || i == 4) && finding.at("id") == "iii";
            if (i < 7 && !keeps_are_known) {
                EXPECT_EQ(finding.at("verdict"), "undecided") << i << finding.at("because").at("text");
            }
            check_sentence(analysis, finding.at("because"));
        }
        for (const Json& sentence : analysis.at("sentences")) check_sentence(analysis, sentence);
        EXPECT_FALSE(verdict_text(analysis).empty());
    }
}

TEST(Analysis, OfRunsThatDifferInShapeAndScopes) {
    PlantedRun shallow = planted("mha"), deep = planted("mha"), old = planted("mha");
    deep.seed = 2;
    deep.layers = 12;
    deep.nulls = {"mp", "permuted"};
    old.seed = 3;
    old.version = 1;
    old.head_scope = false;
    const Json analysis =
        analyse({planted_statistics(shallow), planted_statistics(deep), planted_statistics(old)});
    const Json& matrices = analysis.at("groups").at(0).at("matrices").at("qk");
    EXPECT_EQ(analysis.at("groups").at(0).at("seeds"), 3);
    EXPECT_EQ(matrices.at("layer").at("layers"), 12);
    EXPECT_EQ(matrices.at("head").at("kept").at("step0").at("least").at("n"), 2);
    EXPECT_EQ(matrices.at("layer").at("kept").at("null").at("least").at("n"), 1)
        << "only one has the product null";
    EXPECT_EQ(matrices.at("layer").at("nulls").at("product").at("peak_ratio").at("n"), 2);
    EXPECT_EQ(matrices.at("layer").at("nulls").at("permuted").at("peak_ratio").at("n"), 1);
    EXPECT_TRUE(matrices.at("layer").at("nulls").at("permuted").at("peak_ratio").at("low").is_null());
}

/// Writes the planted spectra into the folder of a run that was not trained.
void write_planted_run(const std::filesystem::path& folder, const PlantedRun& run) {
    write_sample_run(folder, {.variant = run.variant, .steps = run.steps, .measured = {}});
    std::filesystem::create_directories(folder / "spectra");
    std::ofstream summary(folder / "spectra" / "summary.jsonl");
    for (const nlohmann::json& line : planted_lines(run)) summary << line.dump() << "\n";
}

TEST(Analysis, OfRunFoldersIsOnThePage) {
    const TempFolder folder;
    std::vector<std::filesystem::path> folders;
    std::vector<RunStatistics> runs;
    for (const char* variant : {"mha", "mla-prerope"})
        for (uint64_t seed = 1; seed <= 2; ++seed) {
            PlantedRun run = planted(variant);
            run.seed = seed;
            run.val_loss = 2 + 6 / (1 + 80.0) + 0.1;  // the last of sample_run.cpp
            runs.push_back(planted_statistics(run));
            folders.push_back(folder.path() / runs.back().name);
            write_planted_run(folders.back(), run);
        }
    const Json payload = report_payload(folders, 4'000'000);
    EXPECT_EQ(payload.at("analysis"), analyse(runs));
    // A log without a usable start, and a recipe that cannot be read.
    std::ofstream(folders[0] / "config.toml") << "[model\n";
    for (const char* start :
         {"", R"({"event": "start", "variant": 3})", R"({"event": "start", "variant": "mtla"})"}) {
        std::ofstream(folders[0] / "metrics.jsonl") << start << "\n"
                                                    << R"({"event": "train", "step": 1, "loss": 3})"
                                                    << "\n";
        const Json bare = report_payload({folders[0]}, 4'000'000).at("analysis").at("groups").at(0);
        EXPECT_EQ(bare.at("variant"),
                  std::string(start).find("mtla") == std::string::npos ? "unknown" : "mtla");
        EXPECT_EQ(bare.at("steps"), 800) << "the last that was measured";
    }
    const Json given = {{"v", 1}};
    EXPECT_EQ(report_payload(folders, 4'000'000, {.analysis = &given}).at("analysis"), given);
}

TEST(NameArms, TellsApartWhatDiffersBesidesTheSeed) {
    std::vector<RunStatistics> runs(5);
    for (RunStatistics& run : runs) run.settings = {{"train.lr", "0.001"}, {"data.dir", "\"c\""}};
    for (size_t i = 0; i < runs.size(); ++i) runs[i].variant = i < 3 ? "mha" : "mla-rope";
    name_arms(runs);
    for (const RunStatistics& run : runs) EXPECT_EQ(run.arm, "");
    runs[2].settings["train.lr"] = "0.01";
    runs[4].settings.clear();
    name_arms(runs);
    EXPECT_EQ(runs[0].arm, "lr=0.001");
    EXPECT_EQ(runs[2].arm, "lr=0.01");
    EXPECT_EQ(runs[3].arm, "lr=0.001");
    EXPECT_EQ(runs[4].arm, "");
    runs[1].settings["data.dir"] = "\"a/b\"";
    name_arms(runs);
    EXPECT_EQ(runs[1].arm, "dir=a/b,lr=0.001");
    EXPECT_FALSE(verdict_text(analyse(runs)).empty());
}

TEST(ReadableText, IsTheSameJson) {
    const Json json = {{"a", {1, 2, {{"b", nullptr}}}}, {"long", Json::array()}, {"text", "\"{\n"}};
    EXPECT_EQ(readable_text(json), json.dump() + "\n");
    Json large = json;
    for (int i = 0; i < 40; ++i) large["long"].push_back({{"key", i}});
    EXPECT_EQ(Json::parse(readable_text(large)), large);
    EXPECT_NE(readable_text(large).find("\n  {\"key\":39}\n"), std::string::npos) << readable_text(large);
}

}  // namespace
}  // namespace pastur::test
