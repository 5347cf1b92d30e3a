import * as dagreModule from "@dagrejs/dagre";
export const dagre = dagreModule.default ?? dagreModule;
export { select } from "d3-selection";
export { zoom, zoomIdentity, zoomTransform } from "d3-zoom";
