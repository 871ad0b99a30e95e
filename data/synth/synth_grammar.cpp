#include "data/synth/synth_grammar.h"

namespace pastur {

// Variables: hero he him his | friend fhe fhim fhis | role frole town place far obj objadj mat colour food
// animal pet num part season weather feeling virtue plot. Classes: n (noun of the setting), noun (any), spot,
// adj, adv, vi, vt, feel, hue.
const char* const kStoryGrammar = R"grammar(
Opening: 2* {Start} {Person} {Home} | {Start} {Person} {Home} {Detail}
  | {Start} {Person} {Home} {Detail} {Detail} | {Start} {Person} {Person} {Home}
  | {Start} {Home} {Detail} {Person}

Start: 3* Once there {v be} a {adj} {role} called {hero}. | {hero} {v be} the {ThisRole} of {town}.
  | 2* In {town}, near the {place}, {v live} a {role} called {hero}.
  | Everyone in {town} {v know} {hero}, the {adj} {role}.
  | {^num} years ago a {role} named {hero} {past come} to {town}.
  | 2* {hero} {v be} a {adj} {role} in the town of {town}.
  | This is the story of {hero}, a {role} from {town}.
ThisRole: 3* only {role} | best {role} | {est adj} {role} | youngest {role}
Person: 3* {^he} {v be} {adj} and {adj}, and {he} always {v carry} a {n} in {his} {Bag}.
  | {^he} {v love} {food} and {adj} {pl n}. | 2* {^he} {v have} a {adj} {animal} called {pet}.
  | {^he} {v own} {num} {pl n} and one {adj} {animal}, which {v be} called {pet}.
  | People {vp say} that {he} {v be} {er adj} than a {n}.
  | Every {part} {he} {v vi} near the {place} and {v vt} the {pl n}.
  | Nobody {v vt} {pl n} as {adv} as {hero}. | {^his} {noun} {v be} as {adj} as a {n}.
  | When {he} {v be} {feel}, {he} {v vi} to the {place}. | {^he} {v be} never {feel} for long.
Bag: 3* bag | pocket | coat | basket
Home: 2* {^his} house {v stand} beside the {place}, between a {n} and a {adj} {n}.
  | {^he} {v live} in a {adj} house with {num} {pl n}. | On the wall {v hang} a {mat} {obj}, {AGift}.
  | 3* {^his} greatest treasure {v be} a {objadj} {obj}, {AGift}.
  | {^he} {v keep} a {objadj} {obj} on the table, because it {v be} {AGift}.
AGift: a gift from {his} {Kin} | 2* made by {his} {Kin} | older than {his} {Kin}
  | found by {his} {Kin} in the {far}
Kin: 3* grandmother | grandfather | mother | father | aunt | uncle | sister | brother
Detail: The {n} in the {spot} {v be} {adj} and {adj}. | There {vp be} {num} {pl n}, all of them {adj}.
  | A {adj} {n} {v vi} behind the {n}. | The {pl n} {vp be} {adj} that {season}.
  | {^pl n} {vp be} {ing vi} in the {spot}. | A {adj} {n} {v be} {ed vt} by a {role}.
  | {^num} {pl n} {vp be} {ing vi} behind a {n}.
  | Somewhere a {n} {v vi} {adv}. | {^adv}, a {noun} {v vi} past the {n}.
  | The {er adj} the {n}, the {er adj} the {n}. | {pet} the {animal} {v vi} beside {him}.
  | It {v smell} of {food} and {adj} {pl n}. | {Weather_@weather}
  | Most {pl n} {vp be} {adj}, but this one {v be} {adj}. | No {n} in {town} {v be} {er adj}.

Weather_rain: It {v rain}, and the {pl n} {vp be} wet.
  | The rain {v drum} on the {n}, and the streets of {town} {vp be} muddy.
  | Water {v drip} from every {n}.
Weather_snow: Snow {v lie} on the {pl n}. | It {v snow}, and the {place} {v be} white and silent.
  | The {n} {v be} frozen, and {his} breath {v hang} in the air.
Weather_sun: The sun {v shine} on the {pl n}. | It {v be} hot, and every {n} {v throw} a short shadow.
  | The sky over {town} {v be} blue.
Weather_wind: The wind {v shake} the {pl n}.
  | A strong wind {v blow} from the {far}, and the {n} {v creak}. | Leaves {vp fly} over the {place}.
Weather_fog: Fog {v cover} the {place}. | In the fog the {pl n} {vp look} like {adj} {pl noun}.
  | Nobody {v see} further than the next {n}.
Because_rain: because of the rain | because the road {v be} muddy | while the rain {v fall}
Because_snow: because of the snow | because the path {v be} frozen | while the snow {v fall}
Because_sun: because of the heat | because the sun {v be} bright | while the sun {v burn}
Because_wind: because of the wind | because the wind {v howl} | while the wind {v blow}
Because_fog: because of the fog | because the lamps {vp be} dim | while the fog {v creep} through {town}

Thing: 4* the {obj} | 2* the {objadj} {obj} | the {mat} {obj} | 2* {his} {obj}
ThingOf: 3* {hero}'s {obj} | the {objadj} {obj} | the {obj} of the {role}
When: 2* One {part} | That {part} | One {part} in {season} | The next {part} | {^num} days later
  | On a {adj} {part} | Before long | Soon after
Manner: 3* {adv} | with a {adj} {noun} | like a {adj} {n} | without a {noun}
Asks: 3* {v ask} | {v say} | {v cry} | {v whisper} | {v want} to know
Says: 4* {v say} | {v answer} | {v reply} | {v explain} | {v murmur} | {v laugh} | {v whisper}
  | {v sigh}

Loss: {When}, {Because_@weather}, {hero} {v be} {feeling} and not careful. When {he} {v come} home, {Thing}
    {v be} gone. {Search} {Tears}
  | {When} {hero} {v wake} up and {v find} the {n} open. {^Thing} {v be} not there any more. {Search}
    {Tears}
  | {When} {pet} the {animal} {v vi} over the table. After that, nobody {v know} where {Thing} {v be}.
    {Search} {Tears}
Search: {^he} {v look} under the {n}, behind the {n} and inside the {n}, but {he} {v find} only {num} {pl
    n}.
  | {^he} {v vt} every {n} in the {place}. There {v be} a {adj} {n}, there {vp be} {num} {adj} {pl n}, but
    no {obj}.
  | First {he} {v search} the {spot}, then the {spot}, and at last the {spot}. {^he} {v find} a {hue} {n}
    and nothing else.
Tears: {hero} {v be} {feeling}. | "Without it I am only a {role} with a {n}," {he} {Says}.
  | {^he} {v sit} down on a {n} and {v think} of {his} {Kin}.
  | "{^Thing} of my family," {he} {v sigh}, "and I have lost it!"

Visit: {When} a {adj} {frole} called {friend} {v come} to the {place}. {FriendIs} {Talk}
  | {hero} {v go} to {friend}, the {frole}, who {v live} near the {far}. {FriendIs} {Talk}
  | At the {spot} {hero} {v meet} {friend}, a {frole} with a {adj} {n}. {FriendIs} {Talk}
  | {When}, {Because_@weather}, {friend} the {frole} {v knock} at the door of {hero}. {FriendIs} {Talk}
FriendIs: {^fhe} {v be} known for {fhis} {virtue}. | {^fhe} {v have} a {adj} {n} and a {hue} {n}.
  | {^fhe} {v seem} {feel}, but {fhis} voice {v be} {adj}. | {^fhe} {v vt} a {n} and {v smile} {Manner}.
  | {friend} and {hero} {vp be} old friends. | {^fhe} {v hold} {num} {pl n} in {fhis} {Bag}.
Talk: {TalkLost_@plot} {Reply}
TalkLost_loss: "Have you seen a {objadj} {obj}?" {hero} {Asks}.
  | "Why are you so {feeling}?" {friend} {Asks}. "I have lost my {obj}," {hero} {Says}.
TalkLost_journey: "How far is it to the {far}?" {hero} {Asks}.
  | "What is in your bag?" {friend} {Asks}. "A {objadj} {obj} for the people of the {far}," {hero} {Says}.
TalkLost_repair: "Can you mend a {objadj} {obj}?" {hero} {Asks}.
  | "Why is your {obj} so silent?" {friend} {Asks}. "It is broken," {hero} {Says}.
TalkLost_trade: "Would you sell your {obj}?" {friend} {Asks}. "Not for {num} {pl n}," {hero} {Says}.
  | "I will give you {num} {pl n} for that {obj}," {friend} {Says}.
TalkLost_mystery: "Who put {Thing} here?" {hero} {Asks}.
  | "Did you hear a noise in the {place}?" {friend} {Asks}. "Yes, and it sounded like a {n}," {hero} {Says}.
TalkLost_contest: "Will you come to the contest at the {far}?" {friend} {Asks}. "Only if I may bring my
    {obj}," {hero} {Says}.
  | "What is the prize?" {hero} {Asks}. "A {objadj} {obj}," {friend} {Says}.
Reply: 2* "I saw a {adj} {n} at the {far}," {friend} {Says}. "Be there before {part}."
  | "{^virtue} is worth more than {pl n}," {friend} {Says}, "but I will help you."
  | "Ask the {animal}," {friend} {Says}, and {fhe} {v point} to {pet}.
  | {friend} {v think} for a moment. "We need a {n}, a {n} and some {food}," {fhe} {Says}.
  | "Give me {food} and I will tell you," {friend} {Says} {Manner}. {hero} {v laugh} and {v give} {fhim}
    some {food}. "Then look in the {far}," {fhe} {Says}.
  | {friend} {v shake} {fhis} head. "I am only a {frole}," {fhe} {Says}. "But I know the way to the {far}."

Travel: So {hero} and {friend} {vp walk} from the {place} to the {far}. {OnTheWay} {Arrive}
  | {^hero} {v pack} {food}, a {n} and {num} {pl n}, and {he} {v take} {pet} along. {OnTheWay} {Arrive}
  | The way to the {far} {v be} {adj} {Because_@weather}. {OnTheWay} {Arrive}
  | {friend} {v lead} the way with a {adj} {n} in {fhis} hand. {OnTheWay} {Arrive}
OnTheWay: {Step} | 2* {Step} {Step} | {Step} {Step} {Step}
Step: While they {vp be} {ing vi}, a {adj} {n} {v vi} {adv}.
  | The {n} in the {spot} {v have} been {ed vt} by a {adj} {noun}.
  | {^pet} {v be} {ing vt} a {n}, and {friend} {v be} {ing vi}.
  | They {vp vt} a {adj} {n} and {vp vi} past {num} {pl n}.
  | {^pet} {v vi} in front and {v vt} every {n}.
  | In a {spot} they {vp see} a {n} that {v be} {er adj} than a house.
  | They {vp eat} the {food} under a {adj} {n}. | A {n} and a {n} {vp vi} on the {adj} {n}.
  | {friend} {v sing} a song about a {n} and a {adj} {n}.
  | "{^adj} {pl n} are never {adj}," {friend} {Says}, and {hero} {v vi}. | {Weather_@weather}
  | When {hero} {v be} {feel}, {friend} {v tell} {him} about the {est adj} {n} in {town}.
  | Because the {n} {v be} {adj}, they {vp vt} it with a {n}.
  | {hero} {v count} the {pl n}: there {vp be} {num}. | A {noun} {v vt} them {adv} and {v vi}.
Arrive: At last the {far} {v lie} before them. | After {num} hours they {vp reach} the {far}.
  | The {far} {v be} {er adj} than {hero} {v expect}.

Trouble: {Problem_@plot} {Fail}
Problem_loss: In the {far} there {vp be} so many {pl n} that nobody {v see} any {obj}.
  | A {adj} {n} {v stand} between them and {Thing}.
  | A raven {v sit} on {Thing} and {v look} at {hero} {Manner}.
Problem_journey: The people of the {far} {vp be} {feel} and {vp want} no {obj}.
  | The bridge to the {far} {v be} broken, and the {n} {v be} too {adj}.
  | A {adj} guard {v stand} at the {far}. "No {pl obj} here!" {he} {Says}.
Problem_repair: {^Thing} {v need} a new {n}, and there {v be} none in {town}.
  | Inside {Thing} {v be} a {adj} {n}, and it {v be} stuck.
  | Every time {he} {v touch} it, {Thing} {v fall} apart into {num} {pl n}.
Problem_trade: In the {far} a {adj} stranger {v offer} {num} {pl n}, then {num} {pl n} more.
  | Suddenly everyone {v want} {ThingOf}. | The stranger's {pl n} {vp be} false, but nobody {v notice}.
Problem_mystery: In the {far} they {vp find} {num} footprints and a {hue} {n}.
  | The door of the {far} {v be} locked, and behind it something {v vi}.
  | Every {part} the {obj} {v lie} in another place, and nobody {v touch} it.
Problem_contest: The others {vp be} {er adj} and {er adj}.
  | The first task {v be} to {vt} a {n} without a {n}.
  | {^Thing} {v slip} from {his} hand and {v fall} into the {n}.
Fail: {hero} {v try} to {vt} the {n}, but it {v be} too {adj}. Then {he} {v try} with a {n}, and that {v
    fail} too.
  | {friend} {v pull}, {hero} {v push}, and {pet} {v vi}, but nothing {v move}.
  | "This is impossible," {hero} {Says}. "Nothing is impossible with {virtue}," {friend} {Says}.
  | They {vp wait} until {part}, but only a {n} {v vi}.
  | {^he} {v be} {feeling} again, and even {friend} {v be} {feel}.
  | "If we {vt} the {n}, then the {n} will {vi}," {friend} {Says}. They {vp vt} the {n}, but the {n} {v be}
    {adj} and {v stay} where it {v be}.

Again: {When} they {vp come} back with a {adj} {n}. {Fail} | But {hero} {v be} stubborn. {Fail} {Tears2}
  | {^friend} {v sleep} in the {spot}, and {hero} {v sit} awake until {part}. {Weather_@weather} {Fail}

Turn: Then {hero} {v have} an idea. {Idea} {Result}
  | But {pet} the {animal} {v be} {er adj} than all of them. {^pet} {v vt} the {n} and {v vi} {Manner}.
    {Result}
  | Suddenly {friend} {v remember} the {n} from the {spot}. {Idea} {Result}
  | {hero} {v think} of the words of {his} {Kin}: "{^virtue} first, {pl n} later." {Idea} {Result}
Idea: {^he} {v take} the {hue} {n}, {v tie} it to a {n} and {v vt} it {Manner}.
  | {^he} {v put} {food} on a {n} and {v wait}.
  | "Bring me a {n}!" {he} {v cry}. {friend} {v vt} one, and together they {vp vt} the {n}.
  | {^he} {v turn} the {n} {num} times, as {his} {Kin} {past do}.
  | {^he} {v ask} every {role} and every {frole}, until one of them {v show} {him} a {adj} {n}.
Result: {Success_@plot}
Success_loss: And there {v be} {Thing}, under the {est adj} {n} of all.
  | Behind the {n} something {v shine}: it {v be} {ThingOf}.
  | {^pet} {v come} back with {Thing} between its teeth, and {hero} {v jump} for joy.
Success_journey: The guard {v smile} and {v let} them in, and {hero} {v give} the {obj} to the people of the
    {far}.
  | The people of the {far} {vp see} {Thing} and {vp be} {feel} no more.
Success_repair: There {v be} a click, and {Thing} {v work} again.
  | {^Thing} {v be} whole again, and {er adj} than before.
Success_trade: "I keep my {obj}," {hero} {Says}, "and you keep your {pl n}." The stranger {v vi} and {v
    leave} {town}.
  | The false {pl n} {vp break}, and everyone {v see} that {ThingOf} {v be} the only true treasure.
Success_mystery: Now they {vp understand}: a {animal} {past carry} {Thing} through the {far} every {part}.
  | Behind the door {v sit} a {adj} {animal} with {Thing}. It {v be} {pet}!
Success_contest: The crowd {v shout}, and {hero} {v win} by {num} {pl n}.
  | {hero} {v lose} the contest, but the judges {vp give} {him} a prize for {virtue}.

Start_loss: {Loss}
Start_journey: {When} a letter {v come} from the {far}. "We need a {objadj} {obj}," it {v say}, "and you are
    the only {role} who has one." {hero} {v be} {feeling}, but {he} {v take} {Thing} and {v lock} the door.
    {Tears2}
Start_repair: {When}, {Because_@weather}, {Thing} {v fall} from the {n} and {v break}. {hero} {v vt} the
    pieces: there {vp be} {num}. {^he} {v be} {feeling}. {Tears2}
Start_trade: {When} a stranger {v see} {ThingOf} through the window. {^he} {v talk} about it in every
    {spot}, and soon all {town} {v talk} about the {objadj} {obj}. {hero} {v be} {feeling}. {Tears2}
Start_mystery: {When} {hero} {v find} {Thing} on the {n}, although {he} {past leave} it in the {spot}. The
    next {part} it {v be} beside the {n}. {hero} {v be} {feeling}. {Tears2}
Start_contest: {When} a poster {v hang} on the {n} of {town}: "Contest at the {far}! Bring a {n} and your
    {virtue}." {hero} {v look} at {his} {obj} and {v be} {feeling}. {Tears2}
Tears2: 2* "What would my {Kin} say?" {he} {Asks}. | {pet} the {animal} {v look} at {him} {Manner}.
  | {^he} {v drink} tea, {v eat} {food} and {v think}.
  | {^he} {v vt} {num} {pl n}, as always when {he} {v be} {feel}.

Ending: {Home2} {Thanks} {Moral} | {Thanks} {Home2} | {Home2} {Moral} | {Thanks} {Moral}
Home2: {hero} {v carry} {Thing} back to {town}.
  | In the {part} they {vp walk} back from the {far} to {town}, {er adj} than before.
  | {^Because_@weather}, the way home {v be} long, but {hero} {v vi}.
Thanks: "Thank you, {friend}," {hero} {Says}. "A {role} needs a {frole}."
  | {hero} {v cook} {food} for {friend} and {pet}, and they {vp eat} until {part}.
  | {hero} {v give} {friend} the {hue} {n}, and {friend} {v be} {feel}.
  | {friend} the {frole} {v go} back to the {far}, but {fhe} {v come} again every {season}.
Moral: From that {part} on, {hero} {v be} not {feeling} any more, and {Thing} {v have} a new place beside
    the {n}.
  | And whenever {hero} {v see} a {hue} {n}, {he} {v think} of {friend} and of {virtue}.
  | In {town} people still {vp tell} how a {role} and a {frole} {past find} {virtue} in the {far}.
  | So {hero} {v learn} that {virtue} {v be} {er adj} than any {n}.
  | "{^virtue}," {friend} {v say} to {hero}, "is the {est adj} {obj} of all."
)grammar";

}  // namespace pastur
