//! The world that every benchmark asks, and `portcullis bench`: 120,000 users in two of 6,000 teams
//! nested three deep, 12,000 applications with two environments each, 6,000 folder chains ten deep,
//! 120,000 documents with three viewers, one document that 5,000 groups may see; 826,478 tuples,
//! or any part or multiple of that. Equal in every run.

/// The schema of the world.
pub const SCHEMA: &str = "\
definition user {}
definition team { relation member: user | team#member }
definition application {
    relation developer: user | team#member
    permission deploy = developer
}
definition environment {
    relation application: application
    permission deploy = application->deploy
}
definition folder {
    relation parent: folder
    relation viewer: user | team#member
    permission view = viewer + parent->view
}
definition document {
    relation folder: folder
    relation viewer: user | team#member
    permission view = viewer + folder->view
}
";

/// How large the parts of the world are.
#[derive(Clone, Debug)]
pub struct World {
    users: u64,
    teams: u64,
    applications: u64,
    chains: u64,
    depth: u64,
    documents: u64,
    wide: u64,
    /// How many digits an id has at least.
    digits: usize,
}

/// One tuple: resource, relation, subject.
pub type Triple = (String, &'static str, String);

/// One question: subject, permission or relation, resource.
pub type Question = (String, &'static str, String);

/// The kinds of questions that are measured; `mixed` is all of them in turn.
pub const KINDS: [&str; 4] = ["direct", "nested", "tree", "wide"];

/// A small generator of random numbers, the same in every run (xorshift64*).
pub struct Random(u64);

impl Random {
    /// Begins at `seed`, which is not zero.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound
    }
}

impl World {
    /// The world as named above, times `percent` / 100.
    pub fn new(percent: u64) -> Self {
        let part = |whole: u64| (whole * percent / 100).max(12);
        Self {
            users: part(120_000),
            teams: part(6_000) / 12 * 12,
            applications: part(12_000),
            chains: part(6_000),
            depth: 10,
            documents: part(120_000),
            wide: part(5_000).min(part(6_000) / 12 * 12),
            digits: 1,
        }
    }

    /// About a thousand tuples, most of them of documents.
    pub fn small() -> Self {
        Self {
            documents: 200,
            ..Self::new(0)
        }
    }

    /// The same with ids of at least so many digits.
    #[must_use]
    pub fn with_digits(self, digits: usize) -> Self {
        Self { digits, ..self }
    }

    /// All tuples; a few stand twice, since a user can be drawn into one team twice.
    pub fn tuples(&self) -> impl Iterator<Item = Triple> + Send + '_ {
        (self.teams_in_teams())
            .chain(self.users_in_teams())
            .chain(self.grants_on_applications())
            .chain(self.folder_tree())
            .chain(self.document_grants())
    }

    /// Of every twelve teams one is a top, two are in the middle, nine are leaves.
    fn teams_in_teams(&self) -> impl Iterator<Item = Triple> + Send + '_ {
        (0..self.teams).filter_map(|team| {
            let (block, place) = (team / 12 * 12, team % 12);
            let parent = match place {
                0 => return None,
                1 | 2 => block,
                _ => block + 1 + place % 2,
            };
            Some((self.id("team", parent), "member", self.team_members(team)))
        })
    }

    fn users_in_teams(&self) -> impl Iterator<Item = Triple> + Send + '_ {
        let mut random = Random::new(0x5EED);
        (0..self.users * 2).map(move |turn| {
            let leaf = random.below(self.teams / 12) * 12 + 3 + random.below(9);
            (self.id("team", leaf), "member", self.id("user", turn / 2))
        })
    }

    fn grants_on_applications(&self) -> impl Iterator<Item = Triple> + Send + '_ {
        let mut random = Random::new(0xA11);
        (0..self.applications).flat_map(move |application| {
            let top = random.below(self.teams / 12) * 12;
            let on = self.id("application", application);
            let holds = |environment| {
                let environment = self.id("environment", environment);
                (environment, "application", on.clone())
            };
            let environments = [application * 2, application * 2 + 1].map(holds);
            let granted = (on, "developer", self.team_members(top));
            std::iter::once(granted).chain(environments)
        })
    }

    /// Whoever may view the top of a chain may view all of it.
    fn folder_tree(&self) -> impl Iterator<Item = Triple> + Send + '_ {
        (0..self.chains * self.depth).map(|folder| {
            let on = self.id("folder", folder);
            match folder % self.depth {
                0 => {
                    let owner = folder / self.depth % self.users;
                    (on, "viewer", self.id("user", owner))
                }
                _ => (on, "parent", self.id("folder", folder - 1)),
            }
        })
    }

    fn document_grants(&self) -> impl Iterator<Item = Triple> + Send + '_ {
        let each = (0..self.documents * 4).map(|turn| {
            let document = turn / 4;
            let on = self.id("document", document);
            match turn % 4 {
                0 => {
                    let bottom = (document % self.chains) * self.depth + self.depth - 1;
                    (on, "folder", self.id("folder", bottom))
                }
                nth => {
                    let viewer = (document * 3 + nth - 1) % self.users;
                    (on, "viewer", self.id("user", viewer))
                }
            }
        });
        let wide = (0..self.wide).map(|team| {
            let on = self.id("document", self.documents);
            (on, "viewer", self.team_members(team))
        });
        each.chain(wide)
    }

    /// `count` questions of a kind, drawn uniformly; half of `direct` and `tree` are allowed.
    pub fn questions(&self, kind: &str, count: usize) -> Vec<Question> {
        let mut random = Random::new(0xA5C);
        let kinds: &[&str] = match kind {
            "mixed" => &KINDS,
            _ => &[kind],
        };
        let turns = (0..).flat_map(|round| kinds.iter().map(move |kind| (*kind, round % 2 == 0)));
        (turns.take(count))
            .map(|(kind, allowed)| self.question(kind, allowed, &mut random))
            .collect()
    }

    fn question(&self, kind: &str, allowed: bool, random: &mut Random) -> Question {
        let anybody = random.below(self.users);
        let document = random.below(self.documents);
        match kind {
            "direct" => {
                let viewer = (document * 3 + random.below(3)) % self.users;
                let user = if allowed { viewer } else { anybody };
                (
                    self.id("user", user),
                    "viewer",
                    self.id("document", document),
                )
            }
            "nested" => {
                let environment = random.below(self.applications * 2);
                (
                    self.id("user", anybody),
                    "deploy",
                    self.id("environment", environment),
                )
            }
            "tree" => {
                let owner = (document % self.chains) % self.users;
                let user = if allowed { owner } else { anybody };
                (self.id("user", user), "view", self.id("document", document))
            }
            _ => (
                self.id("user", anybody),
                "view",
                self.id("document", self.documents),
            ),
        }
    }

    fn id(&self, kind: &str, number: u64) -> String {
        format!("{kind}:{number:0digits$}", digits = self.digits)
    }

    fn team_members(&self, team: u64) -> String {
        format!("{}#member", self.id("team", team))
    }
}
