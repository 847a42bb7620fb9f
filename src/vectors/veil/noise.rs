//! Noise of a fixed length in a random direction. The seed is sealed with the vector and lasts as long: fresh noise on the
//! same vector would average out.

use std::f64::consts::TAU;

use zeroize::Zeroizing;

use super::stream::Stream;
use super::{SIGMA, Seed};

/// Adds the noise of `seed` to `vector`, which has length 1: by as many dimensions as it has, so that any score moves by
/// about [`SIGMA`].
pub(super) fn add(vector: &mut [f32], seed: &Seed) {
    let mut stream = Stream::new(seed);
    // Box and Muller's normal deviates.
    let mut deviates = Zeroizing::new(Vec::with_capacity(vector.len() + 1));
    while deviates.len() < vector.len() {
        let a = (f64::from(stream.number()) + 0.5) / 4_294_967_296.0;
        let b = f64::from(stream.number()) / 4_294_967_296.0;
        let (sine, cosine) = (TAU * b).sin_cos();
        let radius = (-2.0 * a.ln()).sqrt();
        deviates.extend([radius * cosine, radius * sine]);
    }
    deviates.truncate(vector.len());
    let length = deviates.iter().map(|g| g * g).sum::<f64>().sqrt();
    let wanted = SIGMA * (vector.len() as f64).sqrt();
    for (x, g) in vector.iter_mut().zip(&*deviates) {
        #[expect(clippy::cast_possible_truncation, reason = "engines hold f32")]
        let noise = (wanted * g / length) as f32;
        *x += noise;
    }
}
