// Console output: nothing that is read is lost, and output that is not read does not block the program.
#include "engine/io/console.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "engine/io/step_name.h"
#include "tests/support/training_line.h"

namespace pastur {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Pipe {
    Pipe() {
        int ends[2];
        if (::pipe(ends) != 0) throw std::runtime_error("no pipe");
        out = ends[0], in = ends[1];
    }
    ~Pipe() {
        ::close(out);
        if (in >= 0) ::close(in);
    }
    /// Everything until the last writer has closed its end.
    std::string read_all() {
        ::close(in);
        in = -1;
        std::string all, piece(1 << 16, '\0');
        for (ssize_t got; (got = ::read(out, piece.data(), piece.size())) > 0;)
            all.append(piece, 0, static_cast<size_t>(got));
        return all;
    }
    int out, in;
};

std::string numbered(int i) {
    return "line " + std::to_string(i) + std::string(100, '.') + "\n";
}

TEST(Console, LosesNothingThatIsRead) {
    Pipe pipe;
    std::string want, got;
    for (int i = 0; i < 5000; ++i) want += numbered(i);  // half of the queue, eight times the pipe
    std::thread reader;
    {
        Console console(pipe.in);
        for (int i = 0; i < 5000; ++i) console.write(numbered(i));
        reader = std::thread([&] {
            got.resize(want.size());
            for (size_t at = 0; at < got.size();) {
                const ssize_t count =
                    ::read(pipe.out, got.data() + at, std::min<size_t>(got.size() - at, 999));
                if (count <= 0) break;
                at += static_cast<size_t>(count);
            }
        });
        EXPECT_TRUE(console.flush());
    }
    reader.join();
    EXPECT_TRUE(got == want);
}

TEST(Console, DropsLinesThatAreNotRead) {
    Pipe pipe;
    Console console(pipe.in);
    const auto begin = Clock::now();
    for (int i = 0; i < 1000; ++i) console.write(numbered(i));  // more than a pipe holds
    EXPECT_FALSE(console.flush());
    for (int i = 1000; i < 30000; ++i) console.write(numbered(i));  // three queues
    EXPECT_FALSE(console.flush());
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(10));
    EXPECT_EQ(console.error(), 0) << "a full queue is not an error";
    // When reading starts, the queued lines arrive in order, and then the number of dropped ones.
    std::string got, piece(1 << 16, '\0');
    std::thread reader([&] {
        while (got.find("the last") == std::string::npos) {
            const ssize_t count = ::read(pipe.out, piece.data(), piece.size());
            if (count <= 0) break;
            got.append(piece, 0, static_cast<size_t>(count));
        }
    });
    EXPECT_TRUE(console.flush());
    console.write("the last\n");
    EXPECT_TRUE(console.flush());
    reader.join();
    size_t at = 0;
    int next = 0;
    for (; at < got.size() && got.compare(at, numbered(next).size(), numbered(next)) == 0; ++next)
        at += numbered(next).size();
    EXPECT_GT(at, Console::kQueueBytes - 200);
    EXPECT_EQ(got.substr(at), "(" + std::to_string(30000 - next) +
                                  " lines were dropped here: the output was not being read)\n" +
                                  "the last\n");
}

TEST(Console, WritesFilesAtOnceAndKnowsFailures) {
    const test::TempFolder folder;
    const fs::path path = folder.path() / "out";
    const int file = ::open(path.c_str(), O_WRONLY | O_CREAT, 0666), full = ::open("/dev/full", O_WRONLY);
    Console console(file), to_full(full);
    console.write("one\n");
    EXPECT_EQ(read_file(path, 100), "one\n");
    EXPECT_TRUE(console.flush());
    to_full.write("one\n");
    EXPECT_FALSE(to_full.flush());
    EXPECT_EQ(to_full.error(), ENOSPC);
    ::close(file);
    ::close(full);
}

class UnreadOutput : public test::TrainingLine {};

TEST_F(UnreadOutput, DoesNotBlockTraining) {
    // A pipe holds about a thousand lines. The signal is sent after 1500.
    const test::Result result = shell(
        "mkfifo pipe; lines() { cat run/metrics.jsonl 2> none | grep -c train; }; "
        "{ sleep 600 < pipe & reader=$!; '" +
        binary().string() +
        "' train r.toml --device cpu --run run --train.steps=1000000 --diagnostics.every=0 --checkpoint.every=0 "
        "> pipe 2>&1 & pastur=$!; for i in $(seq 3000); do [ $(lines) -lt 1500 ] || break; sleep 0.1; done; "
        "lines; kill -TERM $pastur; wait $pastur; code=$?; kill $reader; exit $code; }");
    EXPECT_EQ(result.code, 75) << result.err;
    EXPECT_GE(std::atoi(result.out.c_str()), 1500) << result.err;
    const nlohmann::json end = metrics("run").back();
    EXPECT_EQ(end["status"], "requeue");
    EXPECT_TRUE(fs::exists(file("run/checkpoints/" + step_name(end["step"].get<int64_t>()))));
}

}  // namespace
}  // namespace pastur
