//! The world that every benchmark asks: 120,000 users in two of 6,000 teams nested three deep,
//! 12,000 applications with two environments each, 6,000 folder chains ten deep, 120,000
//! documents with three viewers, one document that 5,000 groups may see; 826,478 tuples.

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
pub struct World {
    users: u64,
    teams: u64,
    applications: u64,
    chains: u64,
    depth: u64,
    documents: u64,
    wide: u64,
}

/// One question: subject, permission or relation, resource.
pub type Question = (String, &'static str, String);

/// The kinds of questions that are measured.
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
        }
    }

    /// Calls `tuple` with resource, relation and subject of each tuple.
    pub fn tuples(&self, mut tuple: impl FnMut(String, &'static str, String)) {
        let mut random = Random::new(0x5EED);
        // Of every twelve teams one is a top, two are in the middle, nine are leaves.
        for team in 0..self.teams {
            let (block, place) = (team / 12 * 12, team % 12);
            let parent = match place {
                0 => continue,
                1 | 2 => block,
                _ => block + 1 + place % 2,
            };
            tuple(id("team", parent), "member", format!("team:{team}#member"));
        }
        for user in 0..self.users {
            for _ in 0..2 {
                let leaf = random.below(self.teams / 12) * 12 + 3 + random.below(9);
                tuple(id("team", leaf), "member", id("user", user));
            }
        }
        for application in 0..self.applications {
            let top = random.below(self.teams / 12) * 12;
            tuple(
                id("application", application),
                "developer",
                format!("team:{top}#member"),
            );
            for environment in [application * 2, application * 2 + 1] {
                tuple(
                    id("environment", environment),
                    "application",
                    id("application", application),
                );
            }
        }
        for chain in 0..self.chains {
            for level in 0..self.depth {
                let folder = chain * self.depth + level;
                if level > 0 {
                    tuple(id("folder", folder), "parent", id("folder", folder - 1));
                } else {
                    tuple(
                        id("folder", folder),
                        "viewer",
                        id("user", chain % self.users),
                    );
                }
            }
        }
        for document in 0..self.documents {
            let bottom = (document % self.chains) * self.depth + self.depth - 1;
            tuple(id("document", document), "folder", id("folder", bottom));
            for viewer in 0..3 {
                let user = (document * 3 + viewer) % self.users;
                tuple(id("document", document), "viewer", id("user", user));
            }
        }
        for team in 0..self.wide {
            tuple(
                id("document", self.documents),
                "viewer",
                format!("team:{team}#member"),
            );
        }
    }

    /// `count` questions of a kind, drawn uniformly; half of `direct` and `tree` are allowed.
    pub fn questions(&self, kind: &str, count: usize) -> Vec<Question> {
        let mut random = Random::new(0xA5C);
        (0..count)
            .map(|turn| self.question(kind, turn % 2 == 0, &mut random))
            .collect()
    }

    fn question(&self, kind: &str, allowed: bool, random: &mut Random) -> Question {
        let anybody = random.below(self.users);
        let document = random.below(self.documents);
        match kind {
            "direct" => {
                let viewer = (document * 3 + random.below(3)) % self.users;
                let user = if allowed { viewer } else { anybody };
                (id("user", user), "viewer", id("document", document))
            }
            "nested" => {
                let environment = random.below(self.applications * 2);
                (
                    id("user", anybody),
                    "deploy",
                    id("environment", environment),
                )
            }
            "tree" => {
                let owner = (document % self.chains) % self.users;
                let user = if allowed { owner } else { anybody };
                (id("user", user), "view", id("document", document))
            }
            _ => (id("user", anybody), "view", id("document", self.documents)),
        }
    }
}

fn id(kind: &str, number: u64) -> String {
    format!("{kind}:{number}")
}
