//! Places on Earth: points in a rectangle, a circle or a polygon, measured as Qdrant measures them.

use geo::{Contains as _, Coord, Distance as _, Haversine, LineString, Point, Polygon};

use crate::error::{Error, Result};

/// A place on Earth, in degrees.
#[derive(Clone, Copy, PartialEq)]
pub struct GeoPoint {
    lon: f64,
    lat: f64,
}

/// A rectangle between two corners; it may cross the date line. Its edges are outside.
#[derive(Clone, Copy, PartialEq)]
pub struct GeoBox {
    /// The corner in the north-west.
    pub top_left: GeoPoint,
    /// The corner in the south-east.
    pub bottom_right: GeoPoint,
}

/// A circle. Its edge is outside.
#[derive(Clone, Copy, PartialEq)]
pub struct GeoRadius {
    /// Its centre.
    pub center: GeoPoint,
    /// Its radius in metres.
    pub radius: f64,
}

/// A polygon, with holes or without. Its edges are outside.
#[derive(Clone, PartialEq)]
pub struct GeoPolygon(Polygon<f64>);

impl GeoPoint {
    /// A place at a longitude of −180 to 180 and a latitude of −90 to 90 degrees.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a place that is not on Earth.
    pub fn new(lon: f64, lat: f64) -> Result<Self> {
        if !(-180.0..=180.0).contains(&lon) || !(-90.0..=90.0).contains(&lat) {
            return Err(Error::invalid("a place is not on Earth")
                .with_remedy("give `lon` within -180 to 180 and `lat` within -90 to 90"));
        }
        Ok(Self { lon, lat })
    }

    /// Degrees east.
    pub fn lon(&self) -> f64 {
        self.lon
    }

    /// Degrees north.
    pub fn lat(&self) -> f64 {
        self.lat
    }
}

impl GeoBox {
    pub(super) fn has(&self, lon: f64, lat: f64) -> bool {
        let (west, east) = (self.top_left.lon, self.bottom_right.lon);
        let between = if west > east { lon > west || lon < east } else { west < lon && lon < east };
        between && self.bottom_right.lat < lat && lat < self.top_left.lat
    }
}

impl GeoRadius {
    pub(super) fn has(&self, lon: f64, lat: f64) -> bool {
        Haversine.distance(Point::new(self.center.lon, self.center.lat), Point::new(lon, lat)) < self.radius
    }
}

impl GeoPolygon {
    /// From its outer line and the lines around its holes: each has at least four points and ends where it starts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) for a line that is shorter or open.
    pub fn new(exterior: Vec<GeoPoint>, interiors: Vec<Vec<GeoPoint>>) -> Result<Self> {
        let interiors = interiors.into_iter().map(line).collect::<Result<_>>()?;
        Ok(Self(Polygon::new(line(exterior)?, interiors)))
    }

    /// The points of its outer line.
    pub fn exterior(&self) -> impl Iterator<Item = GeoPoint> {
        points(self.0.exterior())
    }

    /// The points of the lines around its holes.
    pub fn interiors(&self) -> impl Iterator<Item = impl Iterator<Item = GeoPoint>> {
        self.0.interiors().iter().map(points)
    }

    /// How many points there are.
    pub(super) fn len(&self) -> usize {
        self.0.exterior().0.len() + self.0.interiors().iter().map(|line| line.0.len()).sum::<usize>()
    }

    pub(super) fn has(&self, lon: f64, lat: f64) -> bool {
        self.0.contains(&Point::new(lon, lat))
    }
}

fn line(points: Vec<GeoPoint>) -> Result<LineString> {
    let closed = match (points.first(), points.last()) {
        (Some(a), Some(b)) => (a.lat - b.lat).abs() <= f64::EPSILON && (a.lon - b.lon).abs() <= f64::EPSILON,
        _ => false,
    };
    if points.len() < 4 || !closed {
        return Err(Error::invalid("a line of a polygon has fewer than four points or is open")
            .with_remedy("end it with the point that it starts with"));
    }
    Ok(LineString(points.into_iter().map(|p| Coord { x: p.lon, y: p.lat }).collect()))
}

fn points(line: &LineString) -> impl Iterator<Item = GeoPoint> {
    line.0.iter().map(|c| GeoPoint { lon: c.x, lat: c.y })
}
