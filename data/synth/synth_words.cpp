#include "data/synth/synth_words.h"

#include <algorithm>

namespace pastur {
namespace {

std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> words;
    while (true) {
        const size_t begin = text.find_first_not_of(" \n");
        if (begin == text.npos) return words;
        text.remove_prefix(begin);
        const size_t end = std::min(text.find_first_of(" \n"), text.size());
        words.push_back(text.substr(0, end));
        text.remove_prefix(end);
    }
}

std::vector<Topic> topics() {
    const auto topic = [](std::string_view places, std::string_view roles, std::string_view nouns) {
        return Topic{split(places), split(nouns), split(roles)};
    };
    return {
        topic("harbour beach lighthouse pier island bay cove shipyard cliff",
              "sailor fisher captain diver boatbuilder pilot", R"(
            boat wave sail net ship rope anchor shell fish gull oar mast deck tide barrel crab hull
            rudder hook wharf lantern whale reef pebble dune seal buoy raft keel harpoon cork starfish
            compass knot flag cabin)"),
        topic("forest clearing glade hut grove thicket valley trail hollow",
              "woodcutter hunter forester herbalist trapper scout", R"(
            tree leaf branch path fox owl deer root mushroom bird log nest berry axe squirrel wolf moss
            fern acorn bear hedgehog oak pine bush stump trunk twig feather badger raven beetle spider
            burrow shadow stag birch)"),
        topic("farm barn field orchard stable meadow pasture mill granary",
              "farmer shepherd miller ploughman cheesemaker beekeeper", R"(
            cow horse sheep hen field fence cart goat bucket egg plough seed wheel sack pig duck apple
            pear lamb gate saddle rooster calf hive tractor haystack scythe shovel trough foal goose
            basket cherry pumpkin turnip)"),
        topic("market square inn workshop bridge townhall fountain tower shop",
              "merchant tailor baker innkeeper potter guard", R"(
            street window door coin stall cart wall lamp roof crowd bell sign purse stone corner
            neighbour button coat hat ribbon carpet vase clock chimney banner step bench pigeon scale
            pot kettle candle mirror ladder letter)"),
        topic("mountain pass cave summit ridge monastery camp glacier quarry",
              "climber miner guide hermit geologist monk", R"(
            rock snowflake peak rope stone eagle goat slope boot crystal tunnel lantern pick backpack
            tent blanket echo avalanche boulder crack ledge stream valley hammer nugget torch mule sled
            glove icicle gem waterfall)"),
        topic("kitchen bakery dairy cellar tavern banquet pantry teahouse",
              "cook baker waiter brewer grocer confectioner", R"(
            table cup plate spoon loaf cake oven knife bowl pan jar onion carrot potato pie apron fork
            jug egg lemon tomato biscuit pudding dumpling recipe stove tray napkin bottle sausage
            pancake kettle ladle walnut plum)"),
        topic("school library classroom archive museum study playground laboratory",
              "teacher librarian tutor scholar scribe printer", R"(
            book page pen desk map shelf pupil lesson word letter question pencil chair globe story
            drawer inkwell chapter picture notebook riddle poem scroll board answer bag ruler alphabet
            dictionary envelope stamp diary)"),
        topic("workshop forge factory shed yard studio smithy attic",
              "smith carpenter inventor clockmaker weaver glassblower", R"(
            hammer wheel nail machine saw gear spring engine tool screw board chain lever lamp bolt wire
            pipe bucket anvil plank chisel drill pulley pump crane cog valve spindle loom toy whistle
            kite wagon magnet)"),
        topic("castle palace throne courtyard dungeon tower garden hall",
              "guard servant minstrel jester squire falconer", R"(
            king crown sword gate horse shield flag tower banner throne dragon princess prince feast
            trumpet bugle moat helmet arrow jewel cloak staircase tapestry goblet spear ring duke lord
            drawbridge falcon chest key scroll)"),
        topic("station railway platform depot village tunnel junction signalbox",
              "conductor engineer porter driver traveller mechanic", R"(
            train ticket track carriage whistle signal suitcase engine seat window passenger lamp wheel
            bridge map clock parcel tunnel bell timetable wagon lever boiler trolley newspaper stove
            compartment rail newsboy trunk)"),
        topic("garden greenhouse park pond meadow nursery hedge terrace",
              "gardener botanist florist painter beekeeper caretaker", R"(
            flower rose tree seed bee butterfly leaf bench spade petal frog weed tulip lily daisy worm
            pot hedge vine snail bulb thorn swing fountain statue ladybird sparrow wheelbarrow rake bud
            sunflower dragonfly lawn)"),
        topic("desert oasis tent ruin bazaar canyon well temple",
              "trader nomad archaeologist guide rider potter", R"(
            camel tent dune well palm snake caravan jar statue lizard star carpet veil map scorpion
            column tomb drum coin sandal spice date falcon oasis lamp pyramid robe trail mirage saddle
            cactus stone vulture)"),
        topic("river mill dam bridge island marsh bank ferry",
              "ferryman miller angler otterkeeper raftsman bridgekeeper", R"(
            boat fish bridge stone reed duck frog bank wheel net otter current paddle swan canoe beaver
            trout rock branch heron pebble log willow waterfall hook dam basket lily eel kingfisher raft
            turtle mosquito)"),
        topic("theatre stage hall circus tent fairground ballroom rehearsal",
              "actor singer dancer violinist juggler puppeteer", R"(
            song mask costume drum flute curtain fiddle dance crowd puppet poster violin seat trumpet
            note clown balloon piano lamp ticket stage script harp magician trick rope hoop choir bell
            guitar accordion carousel wig)"),
        topic("observatory hilltop tower roof balcony dome attic plateau",
              "astronomer lamplighter watchman dreamer mathematician painter", R"(
            star moon telescope planet comet cloud lens chart lamp owl shadow notebook galaxy bat candle
            rocket mirror constellation number circle line dial instrument satellite meteor eclipse
            orbit window machine clock)"),
    };
}

}  // namespace

const Lexicon& lexicon() {
    static const Lexicon words = [] {
        Lexicon lex;
        lex.topics = topics();
        lex.women = split(R"(
            Mira Anna Lena Sara Clara Nora Ella Ida Rosa Maya Vera Alma Iris Lucy Emma Olga Tilda Hanna
            Zoe Elin Freya Marta Greta Sofia Nina Petra Agnes Esther Lydia Ruth Amelia Ingrid Selma Thea
            Wanda Yara Beatrix Cecily Dora Edith Flora Gwen Hilda Isolde Juno Katya Livia Mabel Odile
            Paloma Ramona Sigrid Tamsin Ursula Viola Zelda)");
        lex.men = split(R"(
            Tom Ben Jonas Peter Paul Max Leo Otto Sam Henry Oscar Felix Hugo Emil Victor Adam Simon
            Martin Anton Karl Jakob Milo Noah Oliver Rufus Stefan Theo Walter Yusuf Arthur Bruno Caspar
            Dmitri Edgar Finn Gustav Hector Igor Jasper Kaspar Lars Magnus Niels Orson Pascal Quentin
            Roland Silas Tobias Ulrich Vincent Wendel Xaver Zeno)");
        lex.towns_front = split(R"(
            Alder Oak Stone River Green North Ash Elm Silver Fox Raven Winter Mill Hazel Copper Birch
            Amber Wolf Thorn Heather Swan Iron Honey Clover Falcon)");
        lex.towns_back = split(R"(
            brook ford field ton wick haven dale bridge burgh well stead mouth gate ham crest hollow
            worth moor)");
        lex.pets = split(R"(
            Pepper Biscuit Shadow Button Pip Ginger Rusty Patch Nutmeg Domino Marble Thistle Bramble
            Pickle Sooty Waffle Tinker Comet Acorn Juniper)");
        lex.nouns = split(R"(
            day house man woman child door hand room friend night thing morning road voice idea box year
            corner light word evening noise plan secret hill bird neighbour hour face basket garden
            moment bag step place name stranger game problem sound smile visitor gift dream mistake
            journey promise shoulder week pocket finger reason story cousin floor cupboard shoe chance
            task party family trick surprise storm guest sister brother uncle aunt festival footprint
            accident adventure answer ending beginning habit rumour wish memory hobby greeting argument
            blessing bruise whisper puddle rainbow sunrise sunset hiccup handshake errand bargain
            nickname proverb custom invention discovery decision opinion remark excuse nightmare lullaby
            legend)");
        lex.treasures = split(R"(
            key ring map lantern book box flute clock coin letter compass necklace drum kite mirror bell
            cup crown lamp violin whistle chest brooch statue telescope doll mask quilt puzzle medal
            globe vase bracelet music-box snow-globe chessboard sundial locket medallion kaleidoscope)");
        lex.materials = split(R"(
            wooden silver golden copper glass leather iron paper stone silk brass ivory clay bronze
            velvet tin crystal marble woollen porcelain)");
        lex.colours = split(R"(
            red blue green white black yellow brown grey purple orange pink scarlet violet crimson
            turquoise)");
        lex.foods = split(R"(
            bread soup cheese honey cake tea milk porridge jam stew fruit butter pie pudding chocolate
            rice toast cider gingerbread broth)");
        lex.animals = split(R"(
            dog cat horse goat donkey fox rabbit owl parrot goose mouse raven hedgehog squirrel pony
            turtle hen lamb ferret badger)");
        lex.virtues = split(R"(
            patience courage kindness honesty trust friendship curiosity hope care wisdom loyalty humour
            generosity perseverance modesty gratitude)");
        lex.feelings = split(R"(
            happy sad tired afraid angry proud worried curious surprised calm lonely excited nervous
            grateful hopeful ashamed jealous cheerful confused relieved puzzled restless weary delighted
            anxious bored)");
        lex.numbers = split(R"(
            two three four five seven six ten twelve nine eight eleven)");
        lex.dayparts = split("morning evening afternoon night dawn midnight noon dusk");
        lex.seasons = split("autumn winter spring summer");
        lex.adjectives = split(R"(
            old little big small new good long young bright dark quiet warm cold strange heavy kind soft
            deep empty broken clever narrow strong round wide loud gentle hungry dusty slow quick brave
            clean thick thin sharp hidden lovely dry wet rough smooth tall short tiny huge simple rich
            poor wise foolish stubborn careful sleepy noisy crooked pale rusty muddy sunny windy foggy
            shiny lazy polite rude honest secret ancient modern hollow sour sweet bitter fresh stale
            fragile sturdy clumsy graceful silent busy famous lonely wild tame generous greedy shy bold
            nervous patient curious cheerful gloomy grumpy elegant ragged tidy messy steep flat golden
            ordinary remarkable beautiful ugly dangerous safe mysterious faithful precious enormous
            peculiar splendid delicate solemn humble weathered forgotten frozen painted scattered
            tangled glittering whispering wandering flickering sleek brittle velvet wooden spotted
            striped speckled jolly mighty feeble brisk timid swift drowsy fierce merry neat plump rare
            scarce spare stern vast vivid weary woven worn crisp damp dull eager faint flimsy frosty
            glossy hasty hoarse icy keen lofty mellow misty moist nimble odd peppery prickly quaint
            rigid rosy rural salty sandy savage shaggy slender slim sly smoky snug sparkling spicy
            spiral stiff stout swollen tender tepid tough towering tranquil unusual useful vague wobbly)");
        lex.adverbs = split(R"(
            slowly quickly quietly carefully suddenly softly gently finally happily proudly sadly
            patiently eagerly loudly nervously calmly bravely clumsily secretly politely gladly silently
            hurriedly thoughtfully cheerfully stubbornly solemnly gratefully anxiously gracefully)");
        lex.intransitive = split(R"(
            walk wait laugh smile sleep run dance sing work listen dream rest wander whistle shout cry
            rush travel shiver hurry climb swim jump nod sigh tremble stumble yawn giggle whisper pause
            kneel stroll march hesitate grumble frown mumble sneeze doze crawl limp tiptoe blush hum bow
            clap cough dive drift drum flinch float gallop gasp glide groan hop howl leap linger mutter
            pant peek pray shrug sit skate skip slip snore sob splash sprint squint stagger stand stare
            stretch sway twirl vanish wade waddle wave whine wink)");
        lex.transitive = split(R"(
            find take see hold open carry lose keep bring watch follow clean build paint lift touch drop
            push pull fix mend hide show sell buy wash throw catch count choose wrap break examine
            collect polish repair borrow discover admire sketch measure describe remember draw gather
            arrange cover fold tie shake balance decorate protect inspect rescue return offer study
            steal bury hang sharpen unlock stack weigh trade stir sort guard scrub load label bake bend
            bless bump carve chase chop clutch cook copy crack crumple cut dig dip drag empty explore
            feed fill flatten fling forget greet grip guide hammer heal hit hug ignore imitate invent
            iron join kick kiss knit light lock melt mix nudge oil peel pet pick pinch pour press
            question read ride ring roll rub scrape scratch seal shelter shine slice smash smell spill
            spread squeeze stamp stitch strap swap sweep swing taste tease trace trap trim turn twist
            untie wake warm water wind wipe wrinkle)");
        return lex;
    }();
    return words;
}

}  // namespace pastur
